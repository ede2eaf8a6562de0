//! Builder for the packs of tests.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Source of a pack; written to disk with [`write`](Self::write).
#[derive(Debug, Clone)]
pub struct PackSource {
    name: String,
    version: String,
    files: Vec<(String, String, u32)>,
}

impl PackSource {
    /// Creates a pack without actions.
    pub fn new(name: &str, version: &str) -> PackSource {
        PackSource { name: name.to_owned(), version: version.to_owned(), files: Vec::new() }
    }

    /// Creates the pack that most tests use: small actions that do one thing each.
    pub fn probe() -> PackSource {
        PackSource::new("probe", "1.0.0")
            .action("hello", "bolt: {class: diagnostic}", "#!/bin/sh\necho hello from $BOLT_INSTANCE_ID\necho to stderr >&2\n")
            .action("fail", "bolt: {class: diagnostic}", "#!/bin/sh\necho about to fail\nexit 7\n")
            .action(
                "sleep",
                "parameters: {seconds: {type: number, minimum: 0, maximum: 600, default: 600}}\n\
                 bolt: {class: diagnostic, grace: 200ms, timeout: 10m}",
                "#!/bin/sh\necho sleeping\nexec sleep \"$BOLT_PARAM_SECONDS\"\n",
            )
            .action(
                "alone",
                "bolt: {class: remediation, timeout: 10m, grace: 200ms, concurrency: {max: 1, group: alone, when_busy: reject}}",
                "#!/bin/sh\necho alone\nexec sleep 600\n",
            )
            .action("off", "enabled: false\nbolt: {class: diagnostic}", "#!/bin/sh\n")
            .action("repair", "bolt: {class: remediation, timeout: 1m}", "#!/bin/sh\necho repaired\n")
            .action(
                "typed",
                "parameters:\n  name: {type: string, pattern: '^[a-z]+$', required: true, position: 0}\n  \
                 count: {type: integer, minimum: 1, maximum: 9, default: 3}\n  \
                 fixed: {type: string, immutable: true, default: mine}\n  \
                 token: {type: string, secret: true}\n  \
                 servers: {type: array, items: {type: object, properties: {port: {type: integer}}, additionalProperties: false}}\n\
                 bolt: {class: diagnostic}",
                "#!/bin/sh\ncat\necho \"args: $*\"\nenv | grep ^BOLT_PARAM_ | sort\n",
            )
    }

    /// Adds an action: `yaml` is appended to its action file, `script` is its entry point.
    #[must_use]
    pub fn action(mut self, name: &str, yaml: &str, script: &str) -> PackSource {
        let head = format!(
            "name: {name}\ndescription: What {name} does.\nrunner_type: local-shell-script\nentry_point: {name}.sh\n{yaml}\n"
        );
        self.files.push((format!("actions/{name}.yaml"), head, 0o644));
        self.files.push((format!("actions/{name}.sh"), script.to_owned(), 0o755));
        self
    }

    /// Adds, or replaces, a file.
    #[must_use]
    pub fn file(mut self, path: &str, text: &str, mode: u32) -> PackSource {
        self.files.retain(|(other, ..)| other != path);
        self.files.push((path.to_owned(), text.to_owned(), mode));
        self
    }

    /// Returns the same pack under another version.
    #[must_use]
    pub fn version(mut self, version: &str) -> PackSource {
        version.clone_into(&mut self.version);
        self
    }

    /// Writes it into a new directory below `parent`.
    pub fn write(&self, parent: &Path) -> PathBuf {
        let directory = parent.join(format!("{}-{}", self.name, self.version));
        let pack = format!(
            "ref: {0}\nname: {0}\nversion: {1}\ndescription: A pack of a test.\nauthor: A test\nemail: test@example.org\n",
            self.name, self.version
        );
        write_file(&directory.join("pack.yaml"), &pack, 0o644);
        for (path, text, mode) in &self.files {
            write_file(&directory.join(path), text, *mode);
        }
        directory
    }
}

fn write_file(path: &Path, text: &str, mode: u32) {
    fs::create_dir_all(path.parent().expect("a file has a directory")).expect("the directory can be made");
    fs::write(path, text).expect("the file can be written");
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("the mode can be set");
}
