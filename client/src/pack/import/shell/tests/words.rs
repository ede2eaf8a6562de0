//! Words that may be several or none, and command lines in variables, run with values that leave a file where they are code.

use super::attacks::{directory, hurt_by};
use super::matrix::hurts_in;
use super::*;

/// Scripts with words that may be several or none, and variables that hold a command line.
const WORDS: &[&str] = &[
    // Words of a variable without quotes behind a program that starts another one.
    "t={{a}}; timeout $t ls",
    "t={{a}}; timeout -k $t 5 ls",
    "t={{a}}; sudo -u $t ls",
    "t={{a}}; nice -n $t ls",
    "t={{a}}; env -u $t ls",
    "t={{a}}; flock $t ls",
    "t={{a}}; xargs -n $t ls <<< x",
    "t={{a}}; bash $t/x.sh",
    "t={{a}}; bash -o $t x.sh",
    "t={{a}}; ssh -p $t host ls",
    "t=\"5 {{a}}\"; timeout $t",
    "timeout $(echo {{a}}) ls",
    "timeout $(cat <<< {{a}}) ls",
    "IFS=,; t={{a}}; timeout $t ls",
    "IFS=x; t={{a}}; timeout $t ls",
    "t={{a}}; [ $t = y ]",
    "t={{a}}; [ y = $t ]",
    "t={{a}}; test $t",
    "t={{a}}; printf $t",
    "t={{a}}; sed -n p $t",
    "t={{a}}; python3 $t",
    "t=({{a}} x); timeout \"${t[@]}\"",
    "run() { timeout $1 ls; }; run {{a}}",
    "run() { timeout \"$@\"; }; run 5 {{a}}",
    "run() { timeout $*; }; run 5 {{a}}",
    // Words that may be none.
    "if false; then s=sudo; fi; $s {{a}} x",
    "s=sudo; s=; $s {{a}} x",
    "s=sudo; [ -w / ] && s=; $s {{a}} {{b}}",
    "s=env; [ -w / ] || s=; $s {{a}} {{b}}",
    "s=$(which none); $s {{a}} x",
    "$(which none) {{a}} x",
    "$none {{a}} x",
    "bash $none {{a}}",
    "timeout $none {{a}} hurt.sh",
    "timeout 5 $none {{a}}",
    "sudo $none {{a}}",
    "flock $none {{a}} hurt.sh",
    "bash $none -c {{a}}",
    "for s in '' env; do $s {{a}} x; done",
    "case $x in a) s=env ;; esac; $s {{a}} x",
    "f() { s=env; }; $s {{a}} x",
    "s=env true; $s {{a}} x",
    "while false; do s=env; done; $s {{a}} x",
    "s=env; unset s; $s {{a}} x",
    // Command lines in variables.
    "c=\"bash {{a}}\"; $c",
    "c=\"bash -c {{a}}\"; $c",
    "c=\"bash -c\"; $c {{a}}",
    "c=\"bash\"; c=\"$c -c {{a}}\"; $c",
    "c=\"bash\"; c=\"$c -c\"; $c {{a}}",
    "c=bash; c+=\" -c {{a}}\"; $c",
    "c=\"timeout 5\"; d=\"$c {{a}}\"; $d",
    "c=\"timeout 5 {{a}}\"; $c",
    "c=\"env -i {{a}}\"; nice $c",
    "c=(bash {{a}}); \"${c[@]}\"",
    "c=(timeout 5 {{a}}); \"${c[@]}\"",
    "c=(timeout); c+=(5); c+=({{a}}); \"${c[@]}\"",
    "c=(bash); \"${c[@]}\" -c {{a}}",
    "c=bash; d=(\"$c\" -c {{a}}); \"${d[@]}\"",
    "o=-c; bash $o {{a}}",
    "o=-c; bash \"$o\" {{a}}",
    "o=-x; bash $o {{a}}",
    "o=\"-u x\"; sudo $o {{a}}",
    "for c in bash sh; do $c {{a}}; done",
    "if true; then c=env; else c=nice; fi; $c {{a}}",
    "run() { \"$2\" \"$3\"; }; run x bash {{a}}",
    "run() { \"$1\" -c \"$2\"; }; run bash {{a}}",
    "run() { $1 {{a}}; }; run env",
];

#[test]
fn no_word_of_a_value_becomes_code_where_words_may_be_several_or_none() {
    let (ran, found) = hurt_by(WORDS.iter().copied());
    assert_eq!(found, [] as [String; 0]);
    assert!(ran > 20, "{ran}");
}

#[test]
fn a_value_after_a_variable_that_is_known_stays_data() {
    for script in [
        "s=sudo; $s ls {{a}}",
        "s=\"sudo -n\"; $s rm -f {{a}}",
        "if true; then s=ls; else s=cat; fi; $s {{a}}",
        "if true; then s=ls; elif false; then s=cat; else exit 1; fi; $s {{a}}",
        "die() { echo x; exit 1; }; if true; then s=ls; else die; fi; $s {{a}}",
        "case $x in a) s=ls ;; *) s=cat ;; esac; $s {{a}}",
        "case $x in a) s=ls ;; *) exit 1 ;; esac; $s {{a}}",
        "{ s=ls; }; $s {{a}}",
        "export s=ls; $s {{a}}",
        "c=(ls -l {{a}}); \"${c[@]}\" -h",
        "c=(df -h); [ x ] && c+=(-t {{a}}); \"${c[@]}\"",
        "o=\"-s -S\"; curl $o -H {{a}} x",
        "t={{a}}; echo $t; ls \"$t\"; rm \"$t\"",
        "t={{a}}; timeout \"$t\" ls",
        "t={{a}}; python3 x.py \"$t\"",
        "t={{a}}; [ \"$t\" = y ]; [[ $t = y ]]",
        "run() { sudo \"$@\"; }; run rm -f {{a}}",
        "run() { timeout 5 \"$@\" 2>&1; }; run rm {{a}}",
    ] {
        let done = rewritten(script).unwrap_or_else(|refused| panic!("{script:?}: {refused}"));
        assert_eq!((done.needs, done.programs), (Vec::new(), Vec::new()), "{script:?}");
    }
}

/// An option that its author lists, and callers may leave out, is no word then: what follows takes its place.
#[test]
fn a_value_takes_no_place_of_one_that_is_left_out() {
    let (directory, programs) = directory();
    let work = directory.path().join("work");
    let listed = ScriptValue { limit: Limit::Word, listed: true, omitted: true, ..value("a") };
    let (mut ran, mut found) = (0, Vec::new());
    for script in [
        "{{a}} {{b}}",
        "{{a}} {{b}} x",
        "bash {{a}} {{b}}",
        "timeout {{a}} {{b}} hurt.sh",
        "timeout 5 {{a}} {{b}}",
        "sudo -u x {{a}} {{b}}",
        "sudo {{a}} {{b}}",
        "bash {{a}} -c {{b}}",
        "v={{a}}; $v {{b}}",
        "v={{a}}; bash $v {{b}}",
    ] {
        let values = [listed.clone(), ScriptValue { omitted: true, ..value("b") }];
        let Ok(done) = rewrite(&parts(script, &["a", "b"]), &values, &[]) else { continue };
        let limit = done.needs.iter().find(|(index, _)| *index == 1).map_or(Limit::Free, |(_, need)| need.limit);
        for text in ["hurt.sh", "./hurt.sh", "touch hurt", "$(touch hurt)", "z[$(touch hurt)]"] {
            if Limit::of(text) >= limit && !(done.programs.contains(&1) && text.ends_with("hurt.sh")) {
                ran += 1;
                if hurts_in(&work, &programs, &done.script, &[("SSM_a", ""), ("SSM_b", text)]) {
                    found.push(format!("{script:?} with {text:?}"));
                }
            }
        }
    }
    assert_eq!(found, [] as [String; 0]);
    assert!(ran > 5, "{ran}");
}
