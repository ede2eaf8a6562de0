//! Files that a command writes by its arguments: copies, downloads and what archives hold.

use super::{Kind, Written};

/// Options of copying programs whose operand is the next word.
const WITH_WORD: &[&str] =
    &["-m", "-o", "-g", "-e", "-i", "-S", "-P", "-F", "--mode", "--owner", "--group", "--suffix"];

/// Returns the files that a command with these words, its program first, writes by its arguments.
pub(in crate::pack::import::shell) fn written_by(words: &[String]) -> Vec<Written> {
    let Some((program, arguments)) = words.split_first() else { return Vec::new() };
    let has = |word: &str| arguments.iter().any(|argument| argument == word);
    match program.as_str() {
        "cp" | "mv" | "ln" | "install" | "rsync" | "scp" | "rclone" => copied(arguments),
        "dd" => arguments.iter().filter_map(|word| word.strip_prefix("of=")).map(file).collect(),
        "curl" | "aria2c" | "axel" | "http" => downloaded(arguments),
        "wget" => fetched(arguments),
        "aws" if has("get-object") => last_operand(arguments).into_iter().map(|path| file(&path)).collect(),
        "aws" | "gsutil" | "gcloud" | "s3cmd" | "mc" | "azcopy"
            if has("cp") || has("mv") || has("sync") || has("get") =>
        {
            let is_remote = |path: &String| path.contains("://");
            last_operand(arguments).filter(|path| !is_remote(path)).map_or_else(Vec::new, |path| both(&path))
        }
        "az" => after(arguments, &["-f", "--file", "-d", "--destination"]).map_or_else(Vec::new, |path| both(&path)),
        "tar" | "bsdtar" if extracts(arguments) => {
            let directory = after(arguments, &["-C", "--directory"]);
            vec![tree(directory.as_deref().unwrap_or("."))]
        }
        "unzip" => vec![tree(after(arguments, &["-d"]).as_deref().unwrap_or("."))],
        "7z" | "7za" => vec![tree(arguments.iter().find_map(|word| word.strip_prefix("-o")).unwrap_or("."))],
        "git" | "hg" | "svn" if has("clone") || has("checkout") || has("co") || has("pull") || has("fetch") => {
            // The directory is that of the address if no other one is named.
            vec![tree("."), tree(&last_operand(arguments).unwrap_or_default())]
        }
        "gunzip" | "bunzip2" | "unxz" | "cpio" | "unrar" | "jar" | "patch" | "ar" => vec![tree(".")],
        "sed" | "perl" if arguments.iter().any(|word| edits(word)) => {
            let operands = arguments.iter().filter(|word| !word.starts_with('-'));
            operands.map(|path| Written { kind: Kind::Text, ..file(path) }).collect()
        }
        "sponge" => arguments.iter().map(|path| Written { kind: Kind::Text, ..file(path) }).collect(),
        _ => Vec::new(),
    }
}

fn file(path: &str) -> Written {
    Written { path: path.to_owned(), kind: Kind::Copy }
}

fn tree(path: &str) -> Written {
    Written { path: path.to_owned(), kind: Kind::Tree }
}

/// A file, or a directory if one is there.
fn both(path: &str) -> Vec<Written> {
    vec![file(path), tree(path)]
}

fn copied(arguments: &[String]) -> Vec<Written> {
    let target = after(arguments, &["-t", "--target-directory"]).or_else(|| last_operand(arguments));
    // With a colon it is a place on another host.
    target.filter(|path| !path.contains(':')).map_or_else(Vec::new, |path| both(&path))
}

/// Files of `curl` and programs like it.
fn downloaded(arguments: &[String]) -> Vec<Written> {
    let named = after(arguments, &["-o", "--output", "--out"]).filter(|path| path != "-");
    let short = |word: &String| word.starts_with('-') && !word.starts_with("--");
    let is_output = |pair: &[String]| short(&pair[0]) && pair[0].ends_with('o');
    let clustered = arguments.windows(2).find(|pair| is_output(pair)).map(|pair| pair[1].clone());
    let remote = arguments.iter().any(|word| short(word) && word.contains('O') || word.starts_with("--remote-name"));
    let directory = after(arguments, &["--output-dir", "-d"]).unwrap_or_else(|| ".".to_owned());
    let remote = remote.then(|| tree(&directory));
    named.or(clustered).map(|path| file(&path)).into_iter().chain(remote).collect()
}

/// Files of `wget`, which writes one unless its options name its output.
fn fetched(arguments: &[String]) -> Vec<Written> {
    let short = |word: &String| word.starts_with('-') && !word.starts_with("--");
    let attached = || {
        let word = arguments.iter().find(|word| short(word) && word.contains('O'))?;
        word.split_once('O').map(|(_, path)| path.to_owned()).filter(|path| !path.is_empty())
    };
    let clustered = || {
        let pair = arguments.windows(2).find(|pair| short(&pair[0]) && pair[0].ends_with('O'))?;
        Some(pair[1].clone())
    };
    match after(arguments, &["-O", "--output-document"]).or_else(attached).or_else(clustered).as_deref() {
        Some("-") => Vec::new(),
        Some(path) => vec![file(path)],
        None => vec![tree(after(arguments, &["-P", "--directory-prefix"]).as_deref().unwrap_or("."))],
    }
}

/// True for the arguments of `tar` that extract.
fn extracts(arguments: &[String]) -> bool {
    arguments.iter().enumerate().any(|(at, word)| {
        let letters = word.strip_prefix('-').or((at == 0).then_some(word)).filter(|word| !word.starts_with('-'));
        letters.is_some_and(|letters| letters.contains('x')) || ["--extract", "--get"].contains(&word.as_str())
    })
}

/// True for an option by which a program changes a file in its place.
fn edits(word: &str) -> bool {
    word == "--in-place" || word.starts_with('-') && !word.starts_with("--") && word.contains('i')
}

/// Returns the operand of one of these options, in the next word or in the same one.
fn after(arguments: &[String], options: &[&str]) -> Option<String> {
    let next = |at: usize| arguments.get(at + 1).cloned();
    arguments.iter().enumerate().find_map(|(at, word)| {
        options.iter().find_map(|option| match word.strip_prefix(option)? {
            "" => next(at),
            rest if option.starts_with("--") => rest.strip_prefix('=').map(str::to_owned),
            rest if option.len() == 2 => Some(rest.to_owned()),
            _ => None,
        })
    })
}

fn last_operand(arguments: &[String]) -> Option<String> {
    let mut last = None;
    for (at, word) in arguments.iter().enumerate() {
        let is_taken = at.checked_sub(1).is_some_and(|before| {
            WITH_WORD.contains(&arguments[before].as_str())
                || arguments[before].starts_with("--") && !arguments[before].contains('=') && at + 1 < arguments.len()
        });
        if !word.starts_with('-') && !is_taken {
            last = Some(word.clone());
        }
    }
    last
}
