//! Programs that run what files of a directory say, and how they are told where these lie.

/// Programs that run what files of the working directory say.
const BUILDING: &[&str] = &[
    "make",
    "gmake",
    "rake",
    "gradle",
    "gradlew",
    "ant",
    "mvn",
    "mvnw",
    "npm",
    "npx",
    "yarn",
    "pnpm",
    "pnpx",
    "bun",
    "deno",
    "bundle",
    "tox",
    "nox",
    "vagrant",
    "invoke",
    "composer",
    "docker-compose",
    "podman-compose",
    "terraform",
    "terragrunt",
    "tofu",
    "gunicorn",
    "uwsgi",
    "uvicorn",
    "hypercorn",
    "celery",
    "flask",
    "cargo",
    "go",
    "cmake",
    "ninja",
    "scons",
    "bazel",
    "sbt",
    "lein",
    "mix",
    "pipenv",
    "poetry",
    "fab",
    "cap",
    "serverless",
    "sls",
    "cdk",
    "pulumi",
    "skaffold",
    "helmfile",
    "ansible-playbook",
    "pytest",
    "phpunit",
    "gulp",
    "grunt",
    "webpack",
    "puma",
    "unicorn",
    "rackup",
    "rails",
    "pm2",
    "nodemon",
    "foreman",
    "packer",
    "just",
    "task",
    "dotnet",
    "msbuild",
    "gem",
    "autoreconf",
    "meson",
    "knife",
    "chef-solo",
];

/// True for a program with these arguments that runs what a file of the working directory says.
pub(in crate::pack::import::shell) fn runs_directory(program: &str, arguments: &[String]) -> bool {
    let has = |words: &[&str]| arguments.iter().any(|word| words.contains(&word.as_str()));
    let here = || arguments.iter().any(|word| word == "." || word.starts_with("./"));
    match program {
        "docker" | "podman" | "nerdctl" => has(&["compose", "build", "stack"]),
        "pip" | "pip3" | "pipx" => here() || has(&["-r", "--requirement", "-e", "--editable"]),
        "kubectl" | "oc" | "helm" => here() || has(&["-f", "-k"]),
        // Modules are looked for there.
        _ if program.starts_with("python") => has(&["-c", "-", "-m"]),
        "java" => arguments.iter().any(|word| word.ends_with(".jar") && !word.starts_with('/')),
        _ => BUILDING.contains(&program),
    }
}

/// True for the operand of an option by which a program is told where the files lie that it runs, or for the file itself.
pub(in crate::pack::import::shell) fn is_told_where(
    program: &str,
    arguments: &[String],
    last: &str,
    word: &str,
) -> bool {
    const OPTIONS: &[&str] = &[
        "-C",
        "-f",
        "-k",
        "-p",
        "--directory",
        "--file",
        "--filename",
        "--makefile",
        "--prefix",
        "--cwd",
        "--chdir",
        "-chdir",
        "--project-directory",
        "--project-dir",
        "--pom",
        "--rakefile",
        "-b",
        "-i",
        "--inventory",
    ];
    let installs = ["-i", "-U", "-ivh", "-Uvh", "-F", "--install", "--upgrade", "install"];
    match program {
        "rpm" | "dpkg" => arguments.iter().any(|word| installs.contains(&word.as_str())),
        "ansible-playbook" if !word.starts_with('-') && !last.starts_with('-') => true,
        "docker" | "podman" | "nerdctl" if !arguments.iter().any(|word| word == "compose") => false,
        "kubectl" | "oc" | "helm" | "docker" | "podman" | "nerdctl" => {
            OPTIONS[..8].contains(&last) || last.starts_with("--project")
        }
        _ if BUILDING.contains(&program) => {
            OPTIONS.contains(&last)
                || word.split_once('=').is_some_and(|(option, _)| OPTIONS.contains(&option))
                || OPTIONS[..2].iter().any(|option| word.starts_with(option))
        }
        _ => false,
    }
}
