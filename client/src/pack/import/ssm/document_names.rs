//! Names of actions: those of the documents, or of the directories, or else the notations, that tell documents of one name
//! apart.

use std::collections::BTreeMap;

use packs_schema::base::name::ActionName;

use crate::pack::import::ImportError;
use crate::pack::import::names::{ActionNames, part, short};

/// Name of an action.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct DocumentName {
    pub(super) name: String,
    /// Document whose action would have the same name: one beside it, or one whose name is the same in Bolt.
    pub(super) twin: Option<String>,
}

/// Documents whose names are the same but for case, by their places in the list.
struct Group {
    documents: Vec<usize>,
    /// Number of directories that all paths begin with, and of those that all end with.
    common: (usize, usize),
}

/// Returns the names of the actions of these documents, in their order.
pub(super) fn of_documents(paths: &[&str]) -> Result<Vec<DocumentName>, ImportError> {
    let split: Vec<(Vec<&str>, &str)> = paths.iter().map(|path| split(path)).collect();
    let mut groups: BTreeMap<String, Group> = BTreeMap::new();
    let mut beside: BTreeMap<(&[&str], String), Vec<usize>> = BTreeMap::new();
    for (index, (directories, stem)) in split.iter().enumerate() {
        let new = || Group { documents: Vec::new(), common: (directories.len(), directories.len()) };
        let group = groups.entry(stem.to_ascii_lowercase()).or_insert_with(new);
        if let Some(first) = group.documents.first() {
            let (first, _) = &split[*first];
            let equal = |pairs: &mut dyn Iterator<Item = (&&str, &&str)>| pairs.take_while(|(a, b)| a == b).count();
            let front = equal(&mut first.iter().zip(directories));
            let back = equal(&mut first.iter().rev().zip(directories.iter().rev()));
            group.common = (group.common.0.min(front), group.common.1.min(back));
        }
        group.documents.push(index);
        beside.entry((directories, stem.to_ascii_lowercase())).or_default().push(index);
    }
    let mut names = ActionNames::default();
    let mut named = Vec::new();
    for (index, path) in paths.iter().enumerate() {
        let (directories, stem) = &split[index];
        let group = &groups[&stem.to_ascii_lowercase()];
        let mut name = stem.trim().replace(['.', ' '], "_");
        if group.documents.len() > 1 {
            let (front, back) = group.common;
            let own = directories.get(front..directories.len().saturating_sub(back)).unwrap_or_default();
            let own = own.iter().map(|directory| part(directory)).filter(|part| !part.is_empty());
            name = own.chain([name]).collect::<Vec<_>>().join("_");
        }
        let twins = &beside[&(directories.as_slice(), stem.to_ascii_lowercase())];
        let twin = twins.iter().find(|twin| **twin != index).map(|twin| paths[*twin].to_owned());
        if twin.is_some() {
            let extension = path.rsplit_once('.').map_or("", |(_, extension)| extension);
            name = format!("{name}_{extension}");
        }
        let name = short(&name);
        ActionName::new(name.as_str()).map_err(|source| ImportError::Name { file: (*path).to_owned(), source })?;
        let (name, same) = names.give(path, &name, &[]);
        named.push(DocumentName { name, twin: twin.or(same) });
    }
    Ok(named)
}

fn split(path: &str) -> (Vec<&str>, &str) {
    let mut directories: Vec<&str> = path.split('/').collect();
    let file = directories.pop().unwrap_or_default();
    (directories, file.rsplit_once('.').map_or(file, |(stem, _)| stem))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_of_one_name_are_called_like_their_directories() {
        let named = |paths: &[&str]| {
            let names = of_documents(paths)?;
            Ok::<_, ImportError>(names.into_iter().map(|named| named.name).collect::<Vec<_>>())
        };
        for (paths, wanted) in [
            (["a/x.y.json", "b/z 1.yaml"].as_slice(), ["x_y", "z_1"].as_slice()),
            (&["u/a/1/D/Doc.yml", "u/b/2/D/Doc.yml", "o.yml"], &["a_1_Doc", "b_2_Doc", "o"]),
            (&["x.json", "r/x.json", "r/w/x.json"], &["x", "r_x", "r_w_x"]),
            (&["d/Boot.yml", "d/boot.json"], &["Boot_yml", "boot_json"]),
            (&["d/A.yml", "d/a.json", "e/a.yml"], &["d_A_yml", "d_a_json", "e_a"]),
            (&["x.json", "x.yaml", "x.yml"], &["x_json", "x_yaml", "x_yml"]),
            (&["d/A.yml", "d/a.yml", "d/a_yml.json"], &["A_yml", "a_yml_2", "a_yml_3"]),
            // Directories may be called anything, and names may meet in Bolt only.
            (&["$x/a.yml", "a;b/a.yml", "-rf/a.yml", "{{ x }}/a.yml"], &["x_a", "a_b_a", "rf_a", "x_a_2"]),
            (&["x.y.json", "x y.json", "x_y.yaml"], &["x_y", "x_y_2", "x_y_3"]),
            (&["a_b/c.json", "a/b_c.json", "d/c.json"], &["a_b_c", "b_c", "d_c"]),
            (&["a_b/c.json", "a_b_c.json", "d/c.json"], &["a_b_c", "a_b_c_2", "d_c"]),
        ] {
            assert_eq!(named(paths).unwrap(), wanted, "{paths:?}");
        }
        let twins = |paths: &[&str]| {
            of_documents(paths).unwrap().into_iter().map(|named| named.twin.unwrap_or_default()).collect::<Vec<_>>()
        };
        assert_eq!(twins(&["d/Boot.yml", "d/boot.json", "e/x.yml"]), ["d/boot.json", "d/Boot.yml", ""]);
        assert_eq!(twins(&["x.y.json", "x y.json"]), ["", "x.y.json"], "the first one has its own name");
        for bad in ["{{ x }}.yaml", "-rf.json", "a;b.yml", ".yaml"] {
            assert!(matches!(named(&[bad]), Err(ImportError::Name { .. })), "{bad}");
        }
    }

    #[test]
    fn thousands_of_documents_of_one_name_are_named_at_once() {
        let paths: Vec<String> = (0..20_000).map(|number| format!("u/{number}/v/Document.yaml")).collect();
        let paths: Vec<&str> = paths.iter().map(String::as_str).collect();
        let started = std::time::Instant::now();
        let named = of_documents(&paths).unwrap();
        assert_eq!(named.last().map(|named| named.name.as_str()), Some("19999_Document"));
        assert!(started.elapsed().as_secs() < 20, "{:?}", started.elapsed());
    }
}
