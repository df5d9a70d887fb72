//! Which pool gets a task: the one that is named, or the least loaded one of those that can do it. Pure.

use super::problems;
use super::query::Target;
use super::roster::Presence;
use crate::http::Problem;
use crate::topology::{Route, TeamProgram};

/// Chooses a pool that takes work and has a ready agent as far as is known. Among equally loaded pools
/// `chance` (in `0..1`) decides.
pub(super) fn choose<'a>(
    program: &'a TeamProgram,
    target: &Target,
    presence: impl Fn(&Route) -> Presence,
    chance: f64,
) -> Result<&'a Route, Problem> {
    let able: Vec<&Route> = match target {
        Target::Pool(pool) => program.routes.iter().filter(|route| route.pool == *pool).collect(),
        Target::Capability(capability) => program.routes.iter().filter(|route| route.capabilities.contains(capability)).collect(),
    };
    if able.is_empty() {
        return Err(unknown(program, target));
    }
    let open: Vec<&Route> = able.iter().copied().filter(|route| !route.suspended).collect();
    if open.is_empty() {
        return Err(problems::suspended(&names(&able)));
    }
    // A pool of which nothing is known yet may be as good as any, but one that is known to be ready is better.
    let load = |route: &Route| match presence(route) {
        Presence::Ready { load } => Some(load.min(1e9)),
        Presence::Unknown => Some(1e9),
        Presence::Nobody => None,
    };
    let ready: Vec<(&Route, f64)> = open.iter().filter_map(|route| Some((*route, load(route)?))).collect();
    let least = ready.iter().map(|(_, load)| *load).fold(f64::INFINITY, f64::min);
    let best: Vec<&Route> = ready.into_iter().filter(|(_, load)| *load <= least).map(|(route, _)| route).collect();
    let place = (best.len() as f64 * chance) as usize;
    best.get(place).or(best.last()).copied().ok_or_else(|| problems::no_ready_agent(&names(&open)))
}

fn unknown(program: &TeamProgram, target: &Target) -> Problem {
    match target {
        Target::Pool(pool) => problems::unknown_pool(pool, &program.routes.iter().map(|r| r.pool.as_str()).collect::<Vec<_>>()),
        Target::Capability(capability) => {
            let mut all: Vec<&str> = program.routes.iter().flat_map(|r| &r.capabilities).map(String::as_str).collect();
            all.sort_unstable();
            all.dedup();
            problems::unknown_capability(capability, &all)
        }
    }
}

fn names<'a>(routes: &[&'a Route]) -> Vec<&'a str> {
    routes.iter().map(|route| route.pool.as_str()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology::Hearing;
    use pretty_assertions::assert_eq;

    fn route(pool: &str, capabilities: &[&str], suspended: bool) -> Route {
        Route {
            pool: pool.to_owned(),
            relation: None,
            capabilities: capabilities.iter().map(|c| (*c).to_owned()).collect(),
            suspended,
            hearing: Hearing::default(),
        }
    }

    fn team() -> TeamProgram {
        TeamProgram {
            revision: String::new(),
            routes: vec![route("a", &["review"], false), route("b", &["review", "test"], false), route("s", &["paint", "review"], true)],
        }
    }

    fn chosen(target: &Target, presence: impl Fn(&Route) -> Presence, chance: f64) -> Result<String, (u16, String)> {
        choose(&team(), target, presence, chance).map(|route| route.pool.clone()).map_err(|p| (p.status.as_u16(), p.detail))
    }

    fn pool(name: &str) -> Target {
        Target::Pool(name.to_owned())
    }

    fn capability(name: &str) -> Target {
        Target::Capability(name.to_owned())
    }

    #[test]
    fn a_pool_that_is_named_is_taken_unless_it_cannot_work() {
        assert_eq!(chosen(&pool("a"), |_| Presence::Unknown, 0.0), Ok("a".to_owned()));
        assert_eq!(
            chosen(&pool("x"), |_| Presence::Unknown, 0.0),
            Err((404, "the topology has no pool \"x\": its pools are a, b, s".to_owned()))
        );
        assert_eq!(chosen(&pool("s"), |_| Presence::Unknown, 0.0).unwrap_err().0, 409);
        assert_eq!(chosen(&pool("a"), |_| Presence::Nobody, 0.0).unwrap_err().0, 503);
    }

    #[test]
    fn of_able_pools_the_least_loaded_is_taken() {
        let load = |route: &Route| Presence::Ready { load: if route.pool == "a" { 0.5 } else { 0.25 } };
        assert_eq!(chosen(&capability("review"), load, 0.0), Ok("b".to_owned()));
        let only_a = |route: &Route| if route.pool == "a" { Presence::Ready { load: 3.0 } } else { Presence::Unknown };
        assert_eq!(chosen(&capability("review"), only_a, 0.9), Ok("a".to_owned()), "known to be ready wins over unknown");
        assert_eq!(chosen(&capability("review"), |_| Presence::Unknown, 0.0), Ok("a".to_owned()));
        assert_eq!(chosen(&capability("review"), |_| Presence::Unknown, 0.999), Ok("b".to_owned()));
        assert_eq!(chosen(&capability("paint"), |_| Presence::Unknown, 0.0).unwrap_err().0, 409);
        assert_eq!(chosen(&capability("review"), |_| Presence::Nobody, 0.0).unwrap_err().0, 503);
        let (status, detail) = chosen(&capability("fly"), |_| Presence::Unknown, 0.0).unwrap_err();
        assert_eq!((status, detail.as_str()), (404, "no pool of the topology can do \"fly\": its pools can do paint, review, test"));
    }
}
