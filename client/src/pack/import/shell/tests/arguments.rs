//! Values in the arguments of a script, which are its positional parameters.

use super::*;

#[test]
fn arguments_of_a_script_are_followed() {
    let with = |script: &str| rewrite(&parts(script, &[]), &[value("a"), value("b")], &[0]);
    for script in [
        "eval \"ls $2\"",
        "bash -c \"ls $*\"",
        "bash <<E\necho $2\nE",
        "echo \"ls $2\" | bash",
        "x=$2\ny=\"a $x\"\nif true; then eval \"$y\"; fi",
        "while [ $# -gt 0 ]; do shift; eval \"ls $1\"; done",
        "for a in \"$@\"; do eval ls $a; done",
        "for a; do eval ls $a; done",
        "for a do (( a )); done",
        "while getopts x: o; do eval ls $OPTARG; done",
        "echo $(($2 + 1))",
        "[[ $2 -gt 3 ]]",
        "f() { (( $1 )); }; f \"$@\"",
    ] {
        let done = with(script).unwrap_or_else(|refused| panic!("{script:?}: {refused}"));
        assert!(matches!(done.needs.as_slice(), [(0, _)]), "{script:?}: {done:?}");
    }
    for script in
        ["$2", "eval \"$1\"", "eval $@", ". $2", "sudo -u app bash -lc \"$2\"", "ssh web \"$2\"", "su - app -c \"$2\""]
    {
        assert!(
            with(script).unwrap_err().to_string().starts_with("a names a program, by an argument of the script"),
            "{script:?}"
        );
    }
    for script in ["echo \"$2\"", "bash ./x.sh \"$2\"", "grep -c \"$2\" x", "[ \"$2\" -gt 3 ]"] {
        assert_eq!(with(script).unwrap().needs, [], "{script:?}");
    }
}
