//! Recognises PowerShell in steps, which Rundeck runs on nodes with Windows and no instance of Bolt does.

/// Programs that run PowerShell.
const PROGRAMS: [&str; 2] = ["powershell", "pwsh"];

/// True for a command, or the invocation of a script, that starts PowerShell.
pub(super) fn starts(command: &str) -> bool {
    let program = |word: &str| word.rsplit(['/', '\\']).next().unwrap_or(word).to_ascii_lowercase();
    command
        .split_whitespace()
        .map(program)
        .any(|word| PROGRAMS.contains(&word.trim_end_matches(".exe").trim_matches(['"', '\''])))
}

/// True for the text of a script that is PowerShell: by its shebang, or without one by lines that no shell would run.
pub(super) fn is_script(text: &str) -> bool {
    if let Some(shebang) = text.strip_prefix("#!") {
        return starts(shebang.lines().next().unwrap_or_default());
    }
    text.lines().map(str::trim_start).any(|line| assigns(line) || is_cmdlet(line))
}

/// `$Name = …`
fn assigns(line: &str) -> bool {
    let Some(rest) = line.strip_prefix('$') else { return false };
    let name = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
    name > 0 && rest[name..].trim_start_matches(' ').strip_prefix('=').is_some_and(|after| !after.starts_with('='))
}

/// `Get-Service …`: verb and noun, each with a capital letter.
fn is_cmdlet(line: &str) -> bool {
    let word = line.split_whitespace().next().unwrap_or_default();
    let capital = |part: &str| {
        part.starts_with(|c: char| c.is_ascii_uppercase())
            && part.len() > 2
            && part.bytes().all(|b| b.is_ascii_alphanumeric())
            && part.bytes().any(|b| b.is_ascii_lowercase())
    };
    const VERBS: [&str; 14] = [
        "Add", "Clear", "Get", "Import", "Install", "Invoke", "New", "Out", "Remove", "Restart", "Set", "Start",
        "Stop", "Write",
    ];
    word.split_once('-').is_some_and(|(verb, noun)| VERBS.contains(&verb) && capital(noun))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn powershell_is_told_from_shell() {
        for command in
            ["powershell -Command Get-Process", "C:\\x\\PowerShell.exe -File a", "/usr/bin/pwsh", "sudo pwsh x"]
        {
            assert!(starts(command), "{command}");
        }
        for command in ["echo powershells", "ls", "", "./get-powershell"] {
            assert!(!starts(command), "{command}");
        }
        for script in
            ["#!/usr/bin/env pwsh\nx", "# a\n$Name = \"x\"\n", "if (1) {\n  Write-Host \"x\"\n}\n", "Get-Service"]
        {
            assert!(is_script(script), "{script}");
        }
        for script in [
            "#!/bin/bash\n$Name = 1\n",
            "NAME=1\n$NAME --x=1\n[ $A == 1 ]\n",
            "$A == 1",
            "echo Get-Service",
            "Set-cookie x",
        ] {
            assert!(!is_script(script), "{script}");
        }
    }
}
