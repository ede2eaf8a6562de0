use super::*;

fn file(text: &str) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("client.toml");
    std::fs::write(&path, text).unwrap();
    (dir, path)
}

/// Reads the configuration with these variables and flags.
fn find(path: &Path, variables: &[(&str, &str)], flags: &[(Setting, &str)]) -> Result<Config, ConfigError> {
    let flags: Vec<_> = flags.iter().map(|(setting, value)| (*setting, Some(PathBuf::from(value)))).collect();
    let variable = |name: &str| {
        let found = variables.iter().find(|(known, _)| *known == name);
        found.map(|(_, value)| PathBuf::from(value))
    };
    Config::find_in(Some((path, "--config")), &flags, &variable)
}

fn shown(config: &Config, setting: Setting) -> (PathBuf, String) {
    let sourced = config.get(setting).unwrap();
    (sourced.value.clone(), sourced.origin.to_string())
}

#[test]
fn flags_override_variables_and_variables_the_file_and_each_value_names_its_origin() {
    let text = "certificate = \"me.pem\"\n\nkey = \"/abs/me.key\"\ninventory = \"i.toml\"\n";
    let (dir, path) = file(text);
    let variables = [("BOLT_KEY", "variable.key"), ("BOLT_CA", "variable.ca")];
    let config = find(&path, &variables, &[(Setting::Ca, "flag.ca")]).unwrap();
    let at = |line: usize| format!("{}:{line}", path.display());
    assert_eq!(shown(&config, Setting::Certificate), (dir.path().join("me.pem"), at(1)));
    assert_eq!(shown(&config, Setting::Inventory), (dir.path().join("i.toml"), at(4)));
    assert_eq!(shown(&config, Setting::Key), ("variable.key".into(), "$BOLT_KEY".to_owned()));
    assert_eq!(shown(&config, Setting::Ca), ("flag.ca".into(), "--ca".to_owned()));
    let missing = config.require(Setting::Repository).unwrap_err().to_string();
    assert!(missing.contains("no repository is configured") && missing.contains("client.toml"), "{missing}");
}

#[test]
fn the_repository_table_has_lines_and_an_address_is_not_relative_to_the_file() {
    let (dir, path) = file("ca = \"ca.pem\"\n[repository]\nurl = \"s3://bucket/prefix\"\nkeys = \"keys\"\n");
    let config = find(&path, &[], &[]).unwrap();
    assert_eq!(shown(&config, Setting::Repository), ("s3://bucket/prefix".into(), format!("{}:3", path.display())));
    assert_eq!(shown(&config, Setting::RepositoryKeys), (dir.path().join("keys"), format!("{}:4", path.display())));
    let (_dir, path) = file("repository = { url = \"r\" }\n");
    assert_eq!(shown(&find(&path, &[], &[]).unwrap(), Setting::Repository).1, format!("{}:1", path.display()));
}

#[test]
fn the_record_of_runs_is_a_directory_beside_the_file_or_an_address() {
    let bucket = "s3://ops/runs?region=eu-west-1&lease=30s";
    let (dir, path) = file(&format!("[runs]\nstore = \"{bucket}\"\n"));
    assert_eq!(
        shown(&find(&path, &[], &[]).unwrap(), Setting::RunStore),
        (bucket.into(), format!("{}:2", path.display()))
    );
    let config = find(&path, &[("BOLT_RUN_STORE", "/runs")], &[]).unwrap();
    assert_eq!(shown(&config, Setting::RunStore), ("/runs".into(), "$BOLT_RUN_STORE".to_owned()));
    std::fs::write(&path, "[runs]\nstore = \"runs\"\n").unwrap();
    assert_eq!(find(&path, &[], &[]).unwrap().value(Setting::RunStore), Some(&*dir.path().join("runs")));
    std::fs::write(&path, "[runs]\nbucket = \"runs\"\n").unwrap();
    assert!(find(&path, &[], &[]).unwrap_err().to_string().contains("bucket"));
}

#[test]
fn keys_of_one_repository_are_not_used_for_another() {
    let (dir, path) = file("[repository]\nurl = \"repo\"\nkeys = \"keys\"\nroot = \"root.json\"\n");
    let same = dir.path().join("repo").display().to_string();
    let by_flag = |url: &str| find(&path, &[], &[(Setting::Repository, url)]).unwrap();
    let by_variable = |url: &str| find(&path, &[("BOLT_REPO", url)], &[]).unwrap();
    for config in [by_flag(&same), by_variable(&same)] {
        assert!(config.get(Setting::RepositoryKeys).is_some());
    }
    for config in [by_flag("/other"), by_variable("/other")] {
        assert!(config.get(Setting::RepositoryKeys).is_none() && config.get(Setting::RepositoryRoot).is_none());
        assert!(config.unused(Setting::RepositoryKeys).is_some());
    }
    // A variable or a flag is meant for the repository of this command.
    let given = find(&path, &[("BOLT_REPO", "/other"), ("BOLT_REPO_KEYS", "/k")], &[]).unwrap();
    assert_eq!(given.value(Setting::RepositoryKeys), Some(Path::new("/k")));
}

#[test]
fn an_unknown_key_and_a_named_file_that_is_missing_are_errors() {
    for (text, key) in [("certificat = \"me.pem\"\n", "certificat"), ("[repository]\nurls = \"x\"\n", "urls")] {
        let (_dir, path) = file(text);
        let error = find(&path, &[], &[]).unwrap_err().to_string();
        assert!(error.contains(key) && error.contains("client.toml"), "{error}");
    }
    let gone = tempfile::tempdir().unwrap().path().join("gone.toml");
    assert!(matches!(find(&gone, &[], &[]), Err(ConfigError::File(_))));
}

#[test]
fn every_setting_has_a_variable_that_is_known() {
    for setting in Setting::ALL {
        let owner = packs_schema::base::environment::owner(setting.variable());
        assert_eq!(owner, Some(packs_schema::base::environment::Owner::Client), "{}", setting.variable());
    }
}

#[test]
fn a_file_that_is_missing_is_reported_with_what_names_it() {
    let (dir, path) = file("certificate = \"me.pem\"\nkey = \"me.key\"\nca = \"ca.pem\"\ninventory = \"none.toml\"\n");
    let none = dir.path().join("none.toml").display().to_string();
    let inventory = |variables: &[(&str, &str)], flags: &[(Setting, &str)]| {
        find(&path, variables, flags).unwrap().inventory_file().unwrap_err().to_string()
    };
    let line = |line: usize| format!(", which {}:{line} names", path.display());
    assert_eq!(inventory(&[], &[]), format!("cannot read {none}{}", line(4)));
    assert!(inventory(&[("BOLT_INVENTORY", "/no/i.toml")], &[]).ends_with("/no/i.toml, which $BOLT_INVENTORY names"));
    assert!(inventory(&[], &[(Setting::Inventory, "/no/i.toml")]).ends_with("/no/i.toml, which --inventory names"));
    let identity = find(&path, &[], &[]).unwrap().identity().map(|_| ()).unwrap_err().to_string();
    assert!(identity.ends_with(&line(1)), "{identity}");
    let whole = find(&dir.path().join("no.toml"), &[], &[]).unwrap_err().to_string();
    assert!(whole.ends_with("no.toml, which --config names"), "{whole}");
}

#[tokio::test]
async fn inventory_tables_have_lines_and_a_file_replaces_them() {
    let instance = |id: &str| format!("[[instances]]\nid = \"{id}\"\naddress = \"{id}:1\"\n");
    let (dir, path) = file(
        "ca = \"ca.pem\"\n\n[[inventory]]\nkind = \"file\"\npath = \"a.toml\"\n\n[[inventory]]\nkind = \"file\"\npath = \"b.toml\"\n",
    );
    for name in ["a", "b", "c"] {
        std::fs::write(dir.path().join(format!("{name}.toml")), instance(name)).unwrap();
    }
    let config = find(&path, &[], &[]).unwrap();
    let origins: Vec<String> = config.sources().iter().map(|(_, origin)| origin.to_string()).collect();
    assert_eq!(origins, [format!("{}:3", path.display()), format!("{}:7", path.display())]);
    let ids = async |config: &Config| -> Vec<String> {
        let gathered = config.inventory(GatherOptions::default()).await.unwrap();
        gathered.inventory.instances().iter().map(|instance| instance.id().to_string()).collect()
    };
    assert_eq!(ids(&config).await, ["a", "b"]);
    let c = dir.path().join("c.toml").display().to_string();
    for config in [find(&path, &[("BOLT_INVENTORY", &c)], &[]), find(&path, &[], &[(Setting::Inventory, &c)])] {
        let config = config.unwrap();
        assert_eq!(ids(&config).await, ["c"]);
        assert!(config.sources().is_empty());
    }
}

#[test]
fn errors_of_inventory_tables_name_line_and_key() {
    for (text, parts) in [
        ("\n[[inventory]]\nkind = \"file\"\npaths = \"x\"\n", vec!["line 2", "number 1 (file)", "paths"]),
        ("inventory = 3\n", vec!["line 1", "inventory", "[[inventory]] tables"]),
        ("inventory = [\"a\"]\n", vec!["number 1", "table"]),
        (
            "[[inventory]]\nkind = \"file\"\npath = \"x\"\n[[inventory]]\nkind = \"x\"\n",
            vec!["line 4", "number 2 (x): kind"],
        ),
    ] {
        let (_dir, path) = file(text);
        let error = find(&path, &[], &[]).unwrap_err().to_string();
        for part in parts {
            assert!(error.contains(part) && error.contains("client.toml"), "{part:?} in {error}");
        }
    }
}
