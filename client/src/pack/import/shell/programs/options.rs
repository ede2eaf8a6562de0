//! Options and commands of programs by which these start another one, or run code. Others of their arguments are data.

use super::super::grammar::Role;
use super::Place;

/// Options whose operand is a program, a command or a file that names some, or code of which words alone are enough.
const STARTING: &[(&[&str], &[&str])] = &[
    (&["apt", "apt-get"], &["-c", "--config-file"]),
    (&["ansible-pull"], &["-U", "--url", "-i"]),
    (&["bpftrace"], &["-e"]),
    (&["chef-client", "chef-solo"], &["-o", "-r", "-c", "-j", "--config", "--recipe-url"]),
    (&["consul-template", "envconsul"], &["-exec", "-config", "-template"]),
    (&["curl"], &["-K", "--config"]),
    (&["dnf", "yum"], &["-c", "--config"]),
    (&["dnsmasq"], &["-C", "--conf-file", "--dhcp-script"]),
    (&["git"], &["--exec-path"]),
    (&["gpg", "gpg2"], &["--agent-program", "--dirmngr-program", "--photo-viewer"]),
    (&["helm"], &["--post-renderer"]),
    (&["httpd", "apache2", "apachectl"], &["-f", "-c", "-C", "-d"]),
    (&["java"], &["-jar", "-cp", "-classpath", "--class-path"]),
    (&["logrotate"], &["-f", "--force", "-v", "--verbose", "-d", "--debug", "-vf", "-fv", "-df"]),
    (&["man"], &["-P", "--pager", "-H", "-C"]),
    (&["nc", "ncat", "netcat"], &["-e", "-c", "--exec", "--sh-exec", "--lua-exec"]),
    (&["nginx"], &["-c", "-g", "-p"]),
    (&["openssl"], &["-engine", "-config", "-provider-path"]),
    (&["openvpn"], &["--config"]),
    (&["R", "julia", "elixir", "scala", "ghci", "osascript", "puppet"], &["-e", "-E", "--eval", "--execute"]),
    (&["erl"], &["-eval"]),
    (&["rabbitmqctl"], &["eval"]),
    (&["rpm", "rpmbuild"], &["--eval", "-E", "--pipe", "--load", "--macros", "--rcfile"]),
    (&["scp"], &["-S", "-F"]),
    (&["sort"], &["--compress-program"]),
    (&["split"], &["--filter"]),
    (&["ssh-add"], &["-s"]),
    (&["ssh-keygen"], &["-D"]),
    (&["supervisorctl", "supervisord", "monit"], &["-c", "--configuration"]),
    (&["stap"], &["-e", "-g", "-I"]),
    (&["tcpdump"], &["-z"]),
    (&["wget"], &["--use-askpass", "--config"]),
    (&["zip"], &["-TT", "--unzip-command"]),
];
/// Options whose operand is a name and its value: some names lead to programs.
const SETTINGS: &[(&[&str], &[&str])] = &[
    (&["apt", "apt-get"], &["-o", "--option="]),
    (&["dnf", "yum"], &["--setopt="]),
    (&["rpm", "rpmbuild"], &["--define=", "-D"]),
    (&["scp"], &["-o"]),
    (&["wget"], &["-e", "--execute="]),
];
/// Options whose operand is a command of a shell.
const CODE: &[(&[&str], &[&str])] = &[
    (&["rsync"], &["-e", "--rsh", "--rsync-path"]),
    (
        &["tar"],
        &[
            "-I",
            "-F",
            "--to-command",
            "--use-compress-program",
            "--checkpoint-action",
            "--rsh-command",
            "--rmt-command",
            "--info-script",
            "--new-volume-script",
        ],
    ),
    (&["az", "aliyun"], &["--scripts", "--CommandContent"]),
    (&["borg"], &["--rsh"]),
    (&["certbot", "letsencrypt"], &["--pre-hook", "--post-hook", "--deploy-hook", "--renew-hook"]),
    (&["certbot", "letsencrypt"], &["--manual-auth-hook", "--manual-cleanup-hook"]),
    (&["git"], &["foreach", "--extcmd", "-x", "--exec"]),
    (&["restic"], &["--password-command"]),
    (&["virt-customize", "virt-sysprep", "virt-builder"], &["--run-command", "--firstboot-command"]),
];
/// Programs with a command that runs what is named after it.
const RUNNERS: &[&str] = &[
    "go",
    "deno",
    "bun",
    "pipx",
    "uv",
    "poetry",
    "pipenv",
    "conda",
    "bundle",
    "rbenv",
    "pyenv",
    "consul",
    "sops",
    "chamber",
    "aws-vault",
    "op",
    "doppler",
    "ctr",
    "puppet",
];
const RUN: &[&str] = &["run", "exec", "exec-env", "exec-file", "lock", "apply", "--"];
/// Programs whose first operand is a program or a file of code.
const FIRST: &[&str] = &[
    "spark-submit",
    "uvx",
    "chef-apply",
    "swift",
    "julia",
    "elixir",
    "scala",
    "logrotate",
    "insmod",
    "bpftrace",
    "stap",
    "fio",
];

/// Returns the role of a value at this place, if it is not data.
pub(super) fn role(program: &str, place: &Place<'_>) -> Option<Role> {
    let named = |table: &[(&[&str], &[&str])]| {
        table.iter().any(|(programs, options)| programs.contains(&program) && place.after(options))
    };
    let runs = RUNNERS.contains(&program) && RUN.contains(&place.last) && place.word.is_empty();
    let is_first =
        FIRST.contains(&program) && place.operands == 0 && !place.word.starts_with('-') && !place.last.starts_with('-');
    // The name is not the author's.
    let sets = |(programs, options): &(&[&str], &[&str])| {
        let is_whole = |option: &&str| {
            place.word == *option || place.word.is_empty() && place.last == option.trim_end_matches('=')
        };
        programs.contains(&program) && options.iter().any(is_whole)
    };
    match program {
        // A whole address, or the command in one.
        "socat" => {
            let kind = place.word.to_ascii_lowercase();
            let starts = kind.is_empty() || ["exec:", "system:", "shell:"].iter().any(|known| kind.starts_with(known));
            starts.then_some(Role::Program)
        }
        // A command that other instances run, or a part of one.
        "aws" if place.word.contains("commands") => {
            let begins = place.word.ends_with(['=', '[', '"', '\'']);
            Some(if begins { Role::Program } else { Role::Code })
        }
        _ if runs || is_first || named(STARTING) || SETTINGS.iter().any(sets) => Some(Role::Program),
        _ => named(CODE).then_some(Role::Code),
    }
}
