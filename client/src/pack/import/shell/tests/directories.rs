//! Directories and options that callers choose, by which they choose programs.

use super::*;

#[test]
fn a_directory_of_the_caller_from_which_programs_are_run_names_a_program() {
    for script in [
        "cd {{a}}; ./run.sh",
        "cd {{a}} && make",
        "D={{a}}; cd \"$D\"; bin/run",
        "cd /opt/{{a}}; . ./env.sh",
        "pushd {{a}}; bash run.sh",
        "cd {{a}}; python3 run.py",
    ] {
        assert_eq!(rewritten(script).unwrap().programs, [0], "{script}");
    }
    for script in [
        "cd {{a}}; ls",
        "cd {{a}}; /opt/run.sh",
        "cd /opt; ./run.sh {{a}}",
        "cd {{a}}; cat ./x",
        "cd {{a}}; rm -f x.sh",
    ] {
        assert_eq!(rewritten(script).unwrap().programs, [] as [usize; 0], "{script}");
    }
}

#[test]
fn words_of_a_program_that_starts_others_by_options_are_told() {
    let words = |script: &str| {
        let values = [ScriptValue { words: true, ..value("a") }, value("b")];
        rewrite(&parts(script, &["a", "b"]), &values, &[]).unwrap().by_options
    };
    for script in ["tar {{a}} x", "sort \"{{a}}\"", "sudo yum install -y {{a}}"] {
        assert_eq!(words(script), [0], "{script}");
    }
    for script in ["ls {{a}}", "tar cf {{b}}", "tar cf x{{a}}"] {
        assert_eq!(words(script), [] as [usize; 0], "{script}");
    }
}

#[test]
fn builtins_that_load_or_expand_their_operands_take_no_value() {
    for script in
        ["enable -f {{a}} x", "compgen -W {{a}}", "complete -C {{a}} x", "bind {{a}}", "x={{a}}; enable -f $x y"]
    {
        assert!(rewritten(script).unwrap_err().to_string().contains("names a program"), "{script}");
    }
    let awk = "awk -v y={{a}} 'BEGIN { \"echo \" y | getline z; print z }'";
    assert_eq!(rewritten(awk).unwrap().needs.first().map(|(_, need)| need.limit), Some(Limit::Path));
}
