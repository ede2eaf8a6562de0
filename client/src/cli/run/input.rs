//! Parameters of a command, from its arguments, a file and the terminal.

use std::path::Path;

use packs_schema::agent::rest::ActionView;
use packs_schema::pack::action::Action;

use super::params::{self, Given};
use crate::cli::failure::{Exit, Failure};
use crate::errln;
use crate::runner::{Input, Read};

/// Parameters that were given to a command. Has no `Debug`: they may be secret.
pub(super) struct Arguments<'a> {
    given: &'a [Given],
    check: &'a [Given],
    has_file: bool,
    input: params::Input,
    /// Prints remarks about the definition.
    is_verbose: bool,
}

impl<'a> Arguments<'a> {
    /// Reads the parameters' file.
    pub(super) fn new(
        given: &'a [Given],
        file: Option<&Path>,
        check: &'a [Given],
        is_verbose: bool,
    ) -> Result<Arguments<'a>, Failure> {
        Ok(Arguments { given, check, has_file: file.is_some(), input: params::Input::read(file)?, is_verbose })
    }
}

impl Input for Arguments<'_> {
    type Error = Failure;

    async fn parameters(&mut self, view: &ActionView) -> Result<Read, Failure> {
        let action = &view.action;
        if view.dev.is_some() && self.is_verbose {
            errln!("{} {} is a pushed version: it is not signed", action.reference(), view.version);
        }
        let (mut values, unread) = params::collect(self.given, &self.input, &action.parameters)?;
        params::ask_for_secrets(&action.parameters, &mut values, &mut self.input).await?;
        Ok(Read { values, unread })
    }

    fn check_parameters(&mut self, action: &Action) -> Result<Read, Failure> {
        let (values, unread) = params::collect(self.check, &params::Input::default(), &action.parameters)?;
        Ok(Read { values, unread })
    }

    fn is_empty(&self) -> bool {
        self.given.is_empty() && !self.has_file
    }

    fn is_final(error: &Failure) -> bool {
        error.exit == Exit::Interrupted
    }
}
