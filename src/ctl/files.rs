//! Reads resources out of files as `kubectl apply -f` does: several files, folders, standard input; several
//! documents a file, in YAML or JSON, and lists of resources.

use std::fmt;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize as _, Serialize};
use serde_json::{Map, Value};
use serde_yaml_ng::Value as Yaml;

/// The ends of the names of files that a folder is read for.
const ENDS: [&str; 3] = ["yaml", "yml", "json"];

/// Where a document stands.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(super) struct Place {
    /// The file, as it was named; `-` is standard input.
    pub(super) file: String,
    /// Which document of the file, from 1 on.
    pub(super) document: usize,
    /// Which item of the document, from 1 on, when that is a list.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) item: Option<usize>,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.document)?;
        self.item.map_or(Ok(()), |item| write!(f, "[{item}]"))
    }
}

/// One document, or one item of a list.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Document {
    /// Where it stands.
    pub(super) place: Place,
    /// What it says.
    pub(super) value: Value,
}

/// What files hold.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Files {
    /// Their documents, in their order.
    pub(super) documents: Vec<Document>,
    /// What could not be read, one sentence each.
    pub(super) unreadable: Vec<String>,
}

/// Reads files, and folders without the folders in them. `-` is standard input.
pub(super) fn read(paths: &[PathBuf]) -> Files {
    let mut files = Files::default();
    for path in paths {
        match texts(path) {
            Ok(texts) => texts.into_iter().for_each(|(name, text)| files.add(&name, text)),
            Err(why) => files.unreadable.push(why),
        }
    }
    files
}

/// A file by its name, and what is in it.
type Text = (String, Result<Vec<u8>, std::io::Error>);

/// The files that a path stands for.
fn texts(path: &Path) -> Result<Vec<Text>, String> {
    let name = |path: &Path| path.display().to_string();
    if path == Path::new("-") {
        let mut text = Vec::new();
        return Ok(vec![("-".to_owned(), std::io::stdin().lock().read_to_end(&mut text).map(|_| text))]);
    }
    if !path.is_dir() {
        return Ok(vec![(name(path), std::fs::read(path))]);
    }
    let entries = std::fs::read_dir(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let entries = entries.map_err(|error| format!("{}: the folder cannot be read: {error}", name(path)))?;
    let fits = |path: &PathBuf| path.extension().is_some_and(|end| ENDS.iter().any(|fit| end == *fit)) && !path.is_dir();
    let mut found: Vec<PathBuf> = entries.into_iter().map(|entry| entry.path()).filter(fits).collect();
    found.sort();
    if found.is_empty() {
        return Err(format!("{}: the folder has no file that ends in .yaml, .yml or .json", name(path)));
    }
    Ok(found.into_iter().map(|path| (name(&path), std::fs::read(&path))).collect())
}

impl Files {
    fn add(&mut self, name: &str, text: Result<Vec<u8>, std::io::Error>) {
        let text = match text.map(String::from_utf8) {
            Ok(Ok(text)) => text,
            Ok(Err(_)) => return self.unreadable.push(format!("{name}: this is no text in UTF-8")),
            Err(error) => return self.unreadable.push(format!("{name}: the file cannot be read: {error}")),
        };
        for (number, document) in serde_yaml_ng::Deserializer::from_str(&text).enumerate() {
            let place = Place { file: name.to_owned(), document: number + 1, item: None };
            match Yaml::deserialize(document)
                .and_then(merged)
                .map_err(|error| sentence(name, &error))
                .and_then(|yaml| json(yaml).map_err(|why| format!("{place}: {why}")))
            {
                // Nothing stands between two separators.
                Ok(Value::Null) => {}
                Ok(value) => self.documents.extend(items(place, value)),
                // What follows cannot be told apart any more.
                Err(why) => return self.unreadable.push(why),
            }
        }
    }
}

fn merged(mut yaml: Yaml) -> Result<Yaml, serde_yaml_ng::Error> {
    yaml.apply_merge().map(|()| yaml)
}

fn sentence(file: &str, error: &serde_yaml_ng::Error) -> String {
    match error.location() {
        Some(place) => {
            let said = error.to_string();
            let at = format!(" at line {} column {}", place.line(), place.column());
            format!("{file}, line {}, column {}: this is no YAML: {}", place.line(), place.column(), said.replacen(&at, "", 1))
        }
        None => format!("{file}: this is no YAML: {error}"),
    }
}

/// The items of a list, or the document itself.
fn items(place: Place, value: Value) -> Vec<Document> {
    let is_list = value.get("kind").and_then(Value::as_str).is_some_and(|kind| kind.ends_with("List"));
    match value.get("items") {
        Some(Value::Array(items)) if is_list => {
            let document = |(number, item): (usize, &Value)| Document {
                place: Place { item: Some(number + 1), ..place.clone() },
                value: item.clone(),
            };
            items.iter().enumerate().map(document).collect()
        }
        _ => vec![Document { place, value }],
    }
}

/// YAML as the JSON that the API server would be sent.
fn json(yaml: Yaml) -> Result<Value, String> {
    Ok(match yaml {
        Yaml::Null => Value::Null,
        Yaml::Bool(value) => Value::Bool(value),
        Yaml::String(value) => Value::String(value),
        Yaml::Number(number) => {
            serde_json::to_value(&number).ok().filter(Value::is_number).ok_or_else(|| format!("{number} is no number in JSON"))?
        }
        Yaml::Sequence(items) => Value::Array(items.into_iter().map(json).collect::<Result<_, _>>()?),
        Yaml::Mapping(fields) => {
            let mut object = Map::new();
            for (key, value) in fields {
                let key = match key {
                    Yaml::String(key) => key,
                    Yaml::Number(key) => key.to_string(),
                    Yaml::Bool(key) => key.to_string(),
                    _ => return Err("the name of a field must be a word, and one is a list, a mapping or empty".to_owned()),
                };
                object.insert(key, json(value)?);
            }
            Value::Object(object)
        }
        Yaml::Tagged(tagged) => json(tagged.value)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;
    use serde_json::json;

    fn of(text: &str) -> Files {
        let mut files = Files::default();
        files.add("f.yaml", Ok(text.as_bytes().to_vec()));
        files
    }

    fn said(files: &Files) -> Vec<String> {
        files.documents.iter().map(|document| format!("{} {}", document.place, document.value)).collect()
    }

    #[test]
    fn documents_are_counted_as_they_stand_and_lists_are_taken_apart() {
        let files = of(
            "# a comment\n---\na: 1\n---\n# nothing\n---\nkind: List\nitems: [{b: 2}, {c: 3}]\n---\n{\"d\": [4, 0.5, null, true]}\n---\n",
        );
        assert_eq!(
            said(&files),
            ["f.yaml:1 {\"a\":1}", "f.yaml:3[1] {\"b\":2}", "f.yaml:3[2] {\"c\":3}", "f.yaml:4 {\"d\":[4,0.5,null,true]}"]
        );
        assert_eq!(files.unreadable, [""; 0]);
    }

    #[test]
    fn yaml_becomes_the_json_that_kubectl_sends() {
        let files = of("base: &base {x: 1}\nuse: {<<: *base, y: 2}\ndata: {8080: a, true: b}\ntag: !odd z\n");
        assert_eq!(
            files.documents[0].value,
            json!({"base": {"x": 1}, "use": {"x": 1, "y": 2}, "data": {"8080": "a", "true": "b"}, "tag": "z"})
        );
    }

    /// A regression here lets somebody search a file of a thousand lines for a tab.
    #[test]
    fn what_is_no_yaml_is_told_with_its_line() {
        for (text, why) in [
            ("a: 1\n---\nb: c: d\n", "f.yaml, line 3, column 5: this is no YAML: mapping values are not allowed in this context"),
            ("a: [1\n", "f.yaml, line 2, column 1: this is no YAML: did not find expected ',' or ']'"),
            ("a:\n\tb: 1\n", "f.yaml, line 2, column 1: this is no YAML: found character that cannot start any token"),
            ("a: 1\nb: 2\na: 3\n", "f.yaml, line 1, column 1: this is no YAML: duplicate entry with key \"a\""),
            ("? [a]\n: 1\n", "f.yaml:1: the name of a field must be a word, and one is a list, a mapping or empty"),
            ("a: .nan\n", "f.yaml:1: .nan is no number in JSON"),
        ] {
            let files = of(text);
            assert_eq!(files.unreadable.len(), 1, "{text}");
            assert!(files.unreadable[0].starts_with(why), "{}", files.unreadable[0]);
        }
        // What stands before it counts.
        assert_eq!(said(&of("a: 1\n---\nb: c: d\n---\ne: 1\n")), ["f.yaml:1 {\"a\":1}"]);
        let mut files = Files::default();
        files.add("f", Ok(vec![0xff]));
        assert_eq!(files.unreadable, ["f: this is no text in UTF-8"]);
    }
}
