//! Where a task may go. Pure: the program of the pool decides, and the ancestry of the task.

use axum::http::StatusCode;

use crate::http::Problem;
use crate::topology::delegation::{self, Refusal};
use crate::topology::{PoolProgram, Route};

/// Whom a task is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target<'a> {
    /// A pool.
    Pool(&'a str),
    /// Any pool that can do something.
    Capability(&'a str),
}

/// The pool that a task goes to, or why it goes nowhere: a problem, and the word of it for the metrics.
/// `ancestry` is that of the task, and `turn` shares a capability evenly among the pools that have it and
/// may be sent to.
///
/// # Errors
/// When there is no edge, nobody has the capability, the task may not be passed on to it, or the pool takes
/// no work for now.
pub fn route<'a>(
    program: &'a PoolProgram,
    from: &str,
    ancestry: &[String],
    target: Target<'_>,
    turn: usize,
) -> Result<&'a Route, (Problem, &'static str)> {
    let judge = |route: &Route| delegation::judge(ancestry, &route.pool, program.delegation);
    let refused = |refusal| refused(&refusal, program, ancestry);
    match target {
        Target::Pool(pool) => {
            let Some(route) = program.routes.iter().find(|route| route.pool == pool) else {
                let reachable: Vec<&str> = program.routes.iter().map(|route| route.pool.as_str()).collect();
                let detail =
                    format!("topology {:?} has no edge from pool {from:?} to {pool:?}; {}", program.topology, list("pool", &reachable));
                let problem = Problem::new(StatusCode::FORBIDDEN, "no-route", "The topology does not allow this", detail);
                return Err((problem.with("pools", reachable), "no_route"));
            };
            judge(route).map_err(refused)?;
            if route.suspended { Err((suspended(&format!("pool {pool:?} is suspended")), "suspended")) } else { Ok(route) }
        }
        Target::Capability(capability) => {
            let able: Vec<&Route> = program.routes.iter().filter(|route| route.capabilities.iter().any(|c| c == capability)).collect();
            if able.is_empty() {
                let mut known: Vec<&str> = program.routes.iter().flat_map(|route| &route.capabilities).map(String::as_str).collect();
                known.sort_unstable();
                known.dedup();
                let detail = format!("no pool that {from:?} may send to has the capability {capability:?}; {}", list("capability", &known));
                let problem = Problem::new(StatusCode::NOT_FOUND, "unknown-capability", "Nobody can do this", detail);
                return Err((problem.with("capabilities", known), "unknown_capability"));
            }
            let open: Vec<&Route> = able.iter().copied().filter(|route| judge(route).is_ok()).collect();
            if let (true, Some(Err(refusal))) = (open.is_empty(), able.first().map(|route| judge(route))) {
                return Err(refused(refusal));
            }
            let active: Vec<&Route> = open.into_iter().filter(|route| !route.suspended).collect();
            match turn.checked_rem(active.len()).and_then(|index| active.get(index)) {
                Some(route) => Ok(route),
                None => {
                    Err((suspended(&format!("every pool with the capability {capability:?} that it may go to is suspended")), "suspended"))
                }
            }
        }
    }
}

/// What the agent learns when its task may not be passed on: why, the way that it has come, and which pools
/// it may still go to.
fn refused(refusal: &Refusal, program: &PoolProgram, ancestry: &[String]) -> (Problem, &'static str) {
    let detail = refusal.to_string();
    let problem = match refusal {
        Refusal::Cycle { .. } => Problem::new(StatusCode::CONFLICT, "circular-delegation", "The task would come back", detail),
        Refusal::Depth { max, .. } => {
            Problem::new(StatusCode::CONFLICT, "too-deep", "The task has been passed on too often", detail).with("maxDepth", *max)
        }
    };
    let left = program.routes.iter().filter(|route| delegation::judge(ancestry, &route.pool, program.delegation).is_ok());
    let left: Vec<&str> = left.map(|route| route.pool.as_str()).collect();
    (problem.with("chain", refusal.chain()).with("pools", left), refusal.reason())
}

fn suspended(what: &str) -> Problem {
    let detail = format!("{what}: resume it (spec.operatingMode: Running) or send elsewhere");
    Problem::new(StatusCode::CONFLICT, "pool-suspended", "The pool takes no work for now", detail)
}

/// `it may send to "a", "b"`.
fn list(what: &str, names: &[&str]) -> String {
    if names.is_empty() {
        return format!("there is no {what} that it can reach");
    }
    let quoted: Vec<String> = names.iter().map(|name| format!("{name:?}")).collect();
    format!("it can reach {}", quoted.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology::{Delegation, Relation};
    use pretty_assertions::assert_eq;

    fn program() -> PoolProgram {
        let route = |pool: &str, capabilities: &[&str], suspended| Route {
            pool: pool.into(),
            relation: Some(Relation::Delegate),
            capabilities: capabilities.iter().map(|c| (*c).to_owned()).collect(),
            suspended,
            ..route_base()
        };
        PoolProgram {
            topology: "team".into(),
            revision: "r".into(),
            max_deliveries: 3,
            routes: vec![route("a", &["search"], false), route("b", &["search", "read"], false), route("c", &["search", "write"], true)],
            senders: vec![],
            delegation: Delegation { max_depth: 3, allow_cycles: false },
        }
    }

    fn route_base() -> Route {
        serde_json::from_value(serde_json::json!({"pool": ""})).unwrap()
    }

    fn to(target: Target<'_>, turn: usize) -> Result<String, (u16, String, &'static str)> {
        along(&[], target, turn)
    }

    fn along(ancestry: &[&str], target: Target<'_>, turn: usize) -> Result<String, (u16, String, &'static str)> {
        let program = program();
        let ancestry: Vec<String> = ancestry.iter().map(|pool| (*pool).to_owned()).collect();
        route(&program, "me", &ancestry, target, turn)
            .map(|route| route.pool.clone())
            .map_err(|(problem, word)| (problem.status.as_u16(), problem.detail, word))
    }

    #[test]
    fn a_task_follows_an_edge_or_learns_which_there_are() {
        assert_eq!(to(Target::Pool("a"), 0), Ok("a".into()));
        let (status, detail, word) = to(Target::Pool("x"), 0).unwrap_err();
        assert_eq!((status, word), (403, "no_route"));
        assert_eq!(detail, r#"topology "team" has no edge from pool "me" to "x"; it can reach "a", "b", "c""#);
        assert_eq!(to(Target::Pool("c"), 0).unwrap_err().0, 409);
    }

    #[test]
    fn a_capability_is_shared_by_the_pools_that_are_not_suspended() {
        let pools: Vec<String> = (0..4).map(|turn| to(Target::Capability("search"), turn).unwrap()).collect();
        assert_eq!(pools, ["a", "b", "a", "b"]);
        assert_eq!(to(Target::Capability("write"), 7).unwrap_err().0, 409);
        let (status, detail, word) = to(Target::Capability("sing"), 0).unwrap_err();
        assert_eq!((status, word), (404, "unknown_capability"));
        assert!(detail.ends_with(r#"it can reach "read", "search", "write""#), "{detail}");
    }

    /// A regression here lets agents pass a task round for ever, or refuses work that somebody could do.
    #[test]
    fn a_task_is_not_passed_on_to_who_works_on_it_already() {
        let (status, detail, word) = along(&["a", "me"], Target::Pool("a"), 0).unwrap_err();
        assert_eq!((status, word), (409, "cycle"));
        assert!(detail.contains("a -> me -> a"), "{detail}");
        assert_eq!(along(&["a", "me"], Target::Pool("b"), 0), Ok("b".into()));
        for turn in 0..4 {
            assert_eq!(along(&["a", "me"], Target::Capability("search"), turn), Ok("b".into()), "it goes to the other one");
        }
        assert_eq!(along(&["a", "b", "me"], Target::Capability("search"), 0).unwrap_err().0, 409);
        assert_eq!(along(&["b", "me"], Target::Capability("read"), 0).unwrap_err().2, "cycle");
        assert_eq!(along(&["x", "y", "z", "me"], Target::Pool("a"), 0).unwrap_err().2, "depth");

        let ancestry = ["a".to_owned(), "me".to_owned()];
        let (problem, _) = route(&program(), "me", &ancestry, Target::Pool("a"), 0).unwrap_err();
        assert_eq!(problem.members["chain"], serde_json::json!(["a", "me", "a"]));
        assert_eq!(problem.members["pools"], serde_json::json!(["b", "c"]));
    }
}
