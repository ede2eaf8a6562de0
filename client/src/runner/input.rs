//! Parameters of a run, which are asked for when the definition of the action is known.

use packs_schema::agent::rest::ActionView;
use packs_schema::pack::action::Action;
use packs_schema::pack::param::bind::ParamError;
use serde_json::{Map, Value};

use super::RunError;

/// Parameters as they were read. Has no `Debug`: they may be secret.
#[derive(Default)]
pub struct Read {
    /// Values, each name once.
    pub values: Map<String, Value>,
    /// Errors of values that cannot be read as their type; such a value is in `values` as it was given.
    pub unread: Vec<ParamError>,
}

/// Source of the parameters of a run.
pub trait Input {
    /// Error of the source, and of the run.
    type Error: From<RunError>;

    /// Returns the parameters for an action with this definition. Called again if a kept definition proves to be outdated.
    fn parameters(&mut self, view: &ActionView) -> impl Future<Output = Result<Read, Self::Error>>;

    /// Returns the parameters of the check.
    fn check_parameters(&mut self, action: &Action) -> Result<Read, Self::Error>;

    /// True if no parameters were given.
    fn is_empty(&self) -> bool;

    /// True for an error that another definition cannot change, such as an interrupt.
    fn is_final(_error: &Self::Error) -> bool {
        false
    }
}

/// Parameters of a program: values with their types. Has no `Debug`: they may be secret.
#[derive(Default)]
pub struct Values {
    /// Parameters of the action.
    pub parameters: Map<String, Value>,
    /// Parameters of the check.
    pub check: Map<String, Value>,
}

impl Input for Values {
    type Error = RunError;

    async fn parameters(&mut self, _view: &ActionView) -> Result<Read, RunError> {
        Ok(Read { values: self.parameters.clone(), unread: Vec::new() })
    }

    fn check_parameters(&mut self, _action: &Action) -> Result<Read, RunError> {
        Ok(Read { values: self.check.clone(), unread: Vec::new() })
    }

    fn is_empty(&self) -> bool {
        self.parameters.is_empty()
    }
}
