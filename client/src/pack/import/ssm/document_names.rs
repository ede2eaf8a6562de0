//! Names of actions: those of the documents, or of the directories, or else the notations, that tell documents of one name
//! apart.

use packs_schema::base::name::ActionName;

use crate::pack::import::ImportError;
use crate::pack::import::names::short;

/// Name of an action.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct DocumentName {
    pub(super) name: String,
    /// Document of the same name in the same directory.
    pub(super) twin: Option<String>,
}

/// Returns the names of the actions of these documents, in their order.
pub(super) fn of_documents<'a>(paths: impl Iterator<Item = &'a str> + Clone) -> Result<Vec<DocumentName>, ImportError> {
    let split: Vec<(Vec<&str>, &str)> = paths.clone().map(split).collect();
    let mut names = Vec::new();
    for (path, (directories, stem)) in paths.clone().zip(&split) {
        let twins: Vec<&Vec<&str>> = split
            .iter()
            .filter(|(_, other)| other.eq_ignore_ascii_case(stem))
            .map(|(directories, _)| directories)
            .collect();
        let name = match twins.len() {
            1 => (*stem).to_owned(),
            _ => distinct(directories, &twins).map_or_else(|| (*stem).to_owned(), |of| format!("{of}_{stem}")),
        };
        // Another document beside it whose name differs in case only.
        let twin = paths.clone().zip(&split).find(|(other, (others, other_stem))| {
            *other != path && others == directories && other_stem.eq_ignore_ascii_case(stem)
        });
        let twin = twin.map(|(twin, _)| twin.to_owned());
        let extension = path.rsplit_once('.').map_or("", |(_, extension)| extension);
        let name = if twin.is_some() { format!("{name}_{extension}") } else { name };
        let name = ActionName::new(short(&name.trim().replace(['.', ' '], "_")));
        let name = name.map(String::from).map_err(|source| ImportError::Name { file: path.to_owned(), source })?;
        names.push(DocumentName { name, twin });
    }
    Ok(names)
}

fn split(path: &str) -> (Vec<&str>, &str) {
    let mut directories: Vec<&str> = path.split('/').collect();
    let file = directories.pop().unwrap_or_default();
    (directories, file.rsplit_once('.').map_or(file, |(stem, _)| stem))
}

/// Returns the directories that differ from those of the twins.
fn distinct(directories: &[&str], twins: &[&Vec<&str>]) -> Option<String> {
    let common = |at: &dyn Fn(&[&str], usize) -> Option<String>| {
        (0..directories.len())
            .take_while(|index| {
                let own = at(directories, *index);
                own.is_some() && twins.iter().all(|twin| at(twin, *index) == own)
            })
            .count()
    };
    let front = common(&|path, index| path.get(index).map(|part| (*part).to_owned()));
    let back = common(&|path, index| {
        path.len().checked_sub(index + 1).and_then(|at| path.get(at)).map(|part| (*part).to_owned())
    });
    let rest = directories.get(front..directories.len().saturating_sub(back))?;
    (!rest.is_empty()).then(|| rest.join("_"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_of_one_name_are_called_like_their_directories() {
        let named = |paths: &[&str]| {
            let names = of_documents(paths.iter().copied())?;
            Ok::<_, ImportError>(names.into_iter().map(|named| named.name).collect::<Vec<_>>())
        };
        assert_eq!(named(&["a/x.y.json", "b/z 1.yaml"]).unwrap(), ["x_y", "z_1"]);
        assert_eq!(named(&["u/a/1/D/Doc.yml", "u/b/2/D/Doc.yml", "o.yml"]).unwrap(), ["a_1_Doc", "b_2_Doc", "o"]);
        assert_eq!(named(&["x.json", "r/x.json", "r/w/x.json"]).unwrap(), ["x", "r_x", "r_w_x"]);
        assert_eq!(named(&["d/Boot.yml", "d/boot.json"]).unwrap(), ["Boot_yml", "boot_json"]);
        assert_eq!(named(&["d/A.yml", "d/a.json", "e/a.yml"]).unwrap(), ["d_A_yml", "d_a_json", "e_a"]);
        let twins = of_documents(["d/Boot.yml", "d/boot.json"].into_iter()).unwrap();
        assert_eq!(twins[0].twin.as_deref(), Some("d/boot.json"));
        for bad in ["{{ x }}.yaml", "-rf.json", "a;b.yml", ".yaml"] {
            assert!(matches!(named(&[bad]), Err(ImportError::Name { .. })), "{bad}");
        }
    }
}
