//! A value that is the name of the variable with another value, which is evaluated then.

use super::attacks::directory;
use super::matrix::hurts_in;
use super::*;

/// Scripts in which the name of a variable in `a` may be evaluated.
const NAMES: &[&str] = &[
    "eval \"[[ {{a}} -gt 1 ]]\"",
    "eval \"x={{a}}\"; (( x ))",
    "x={{a}}; eval \"y=$x\"; (( y ))",
    "x=$(eval echo {{a}}); (( x ))",
    "while read n; do (( n )); done < <(eval echo {{a}})",
    "bash -c \"[[ {{a}} -gt 1 ]]; true\"",
    "bash -c \"n={{a}}; echo \\$((n))\"",
    "bash -c '[[ $1 -gt 3 ]]' _ {{a}}",
    "bash -c \"declare -i n={{a}}\"",
    "bash -c \"let n={{a}}\"",
    "bash <<E\nn={{a}}\necho \\$((n))\nE",
    "bash <<E\n[[ {{a}} -gt 1 ]]\nE",
    "cat > s.sh <<E\nN={{a}}\nE\n. ./s.sh; (( N ))",
    "declare -n r={{a}}; eval \"echo $r\"",
    "declare -n r={{a}}; bash -c \"echo $r\"",
    "trap \"[[ {{a}} -gt 1 ]]\" EXIT",
    "test -v {{a}}; eval \"x={{a}}\"; (( x ))",
    "awk 'BEGIN { print \"'\"{{a}}\"'\" }'; bash -c \"[[ {{a}} -gt 1 ]]; true\"",
];

/// Scripts in which a name is no more than its letters.
const LETTERS: &[&str] = &[
    "bash -c \"ls {{a}}\"",
    "eval \"echo {{a}}\"; [ 1 -gt 2 ]",
    "sed \"s/x/{{a}}/\" f; (( i++ ))",
    "systemctl restart {{a}}; echo $((1 + 1))",
    "D={{a}}; find /tmp/$D; (( i++ ))",
    "mysql -e \"select '{{a}}'\"; [[ $i -gt 1 ]]",
    "printf -v {{a}} x; (( i++ ))",
    "(( {{a}} ))",
];

#[test]
fn a_value_that_may_be_the_name_of_another_one_limits_that_one() {
    let (temp, programs) = directory();
    let work = temp.path().join("work");
    let mut found = Vec::new();
    for script in NAMES {
        let done = rewritten(script).unwrap_or_else(|refused| panic!("{script:?}: {refused}"));
        let limit = |index: usize| done.needs.iter().find(|(known, _)| *known == index).map(|(_, need)| need.limit);
        for value in ["z[$(touch hurt)]", "$(touch hurt)"] {
            let fits = limit(0).is_none_or(|limit| Limit::of("SSM_b") >= limit)
                && limit(1).is_none_or(|limit| Limit::of(value) >= limit);
            if fits && hurts_in(&work, &programs, &done.script, &[("SSM_a", "SSM_b"), ("SSM_b", value)]) {
                found.push(format!("{script:?} with {value:?}"));
            }
        }
        let need = done.needs.iter().find(|(index, _)| *index == 1).map(|(_, need)| need.followed);
        assert_eq!(need, Some(false), "{script:?}: {:?}", done.needs);
    }
    assert_eq!(found, [] as [String; 0]);
    // Letters by the pattern of the author.
    let letters = |limit: Limit, listed: bool| {
        let values = [ScriptValue { limit, listed, ..value("a") }, value("b")];
        let done = rewrite(&parts("eval \"x={{a}}\"; (( x ))", &["a", "b"]), &values, &[]).unwrap();
        done.needs.iter().any(|(index, _)| *index == 1)
    };
    assert_eq!(
        [(Limit::Word, false), (Limit::Number, false), (Limit::Word, true)]
            .map(|(limit, listed)| letters(limit, listed)),
        [true, false, false]
    );
    for script in LETTERS {
        let done = rewritten(script).unwrap_or_else(|refused| panic!("{script:?}: {refused}"));
        assert!(done.needs.iter().all(|(index, _)| *index == 0), "{script:?}: {:?}", done.needs);
    }
}
