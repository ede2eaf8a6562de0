//! Limits of callers: how many executions a principal may start within a time, and have at once.

use serde::Deserialize;

use super::PrincipalPattern;
use crate::base::name::Principal;
use crate::pack::action::Rate;

/// Limit of each principal that a pattern matches, apart from the others. All limits that match a principal apply.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(try_from = "WrittenLimit")]
pub struct Limit {
    pub(super) principal: PrincipalPattern,
    /// Maximum number of starts within a period: a full bucket, which fills again evenly.
    pub starts: Option<Rate>,
    /// Maximum number of executions that have not ended, waiting ones included.
    pub executions: Option<u32>,
}

/// Limit as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenLimit {
    principal: PrincipalPattern,
    #[serde(default)]
    starts: Option<Rate>,
    #[serde(default)]
    executions: Option<u32>,
}

impl TryFrom<WrittenLimit> for Limit {
    type Error = String;
    fn try_from(written: WrittenLimit) -> Result<Limit, String> {
        let WrittenLimit { principal, starts, executions } = written;
        if starts.is_none() && executions.is_none() {
            return Err("the limit limits nothing: give starts = { max, per }, or executions".to_owned());
        }
        if starts.is_some_and(|rate| rate.max == 0 || rate.per.0.is_zero()) {
            return Err("starts needs a max and a per above 0; to allow nothing, remove the grant".to_owned());
        }
        if executions == Some(0) {
            return Err("executions must be at least 1; to allow nothing, remove the grant".to_owned());
        }
        Ok(Limit { principal, starts, executions })
    }
}

impl Limit {
    /// True if it applies to the principal.
    pub fn applies_to(&self, who: &Principal) -> bool {
        self.principal.covers(who)
    }
}

#[cfg(test)]
mod tests {
    use super::super::Grants;
    use super::*;

    #[test]
    fn limits_apply_to_the_principals_that_they_match() {
        let text = "[[limit]]\nprincipal = \"a://b/*\"\nstarts = { max = 3, per = \"1m\" }\n\
                    [[limit]]\nprincipal = \"a://b/c\"\nexecutions = 2\n";
        let grants = Grants::parse(text).unwrap();
        let count = |who: &str| grants.limits_of(&Principal::new(who).unwrap()).len();
        assert_eq!((count("a://b/c"), count("a://b/d"), count("a://x/c")), (2, 1, 0));
        for wrong in [
            "",
            "executions = 0",
            "starts = { max = 0, per = \"1m\" }",
            "starts = { max = 1, per = \"0s\" }",
            "starts = { max = 1 }",
            "executions = 1\nrunning = 2",
        ] {
            let error = Grants::parse(&format!("[[limit]]\nprincipal = \"a://b\"\n{wrong}\n")).unwrap_err();
            assert!(error.line().is_some(), "{wrong}: {error}");
        }
    }
}
