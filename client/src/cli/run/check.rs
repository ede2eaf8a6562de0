//! The check between the batches of a run: `--check`.

use packs_schema::agent::rest::ActionView;
use packs_schema::pack::action::Class;

use super::args::How;
use super::{params, prepare};
use crate::cli::failure::{Exit, Failure};
use crate::cli::terminal;
use crate::fleet::{Check, Pause, Request};
use crate::inventory::Instance;
use crate::tls::Identity;
use crate::{parameters, show};

/// Returns the check that `how` asks for, or everything that is wrong with it.
pub(super) async fn prepare(how: &How, targets: &[Instance], identity: &Identity) -> Result<Option<Check>, Failure> {
    if how.pause == Some(Pause::Confirm) && !terminal::can_ask() {
        return Err(Failure::new(Exit::Usage, "--pause ask needs a terminal").hint("give a time, such as --pause 5m"));
    }
    let Some(wanted) = &how.check else { return Ok(None) };
    let name = &wanted.action;
    let ActionView { action, .. } = prepare::schema(wanted, targets, identity).await?;
    if action.class != Class::Diagnostic {
        let message =
            format!("--check {name} is a {}: a check may run more than once and must change nothing", action.class);
        return Err(Failure::new(Exit::Usage, message).hint("`bolt actions` lists the diagnostics"));
    }
    let (given, unread) = params::collect(&how.check_param, &params::Input::default(), &action.parameters)?;
    let errors = parameters::errors(&action.parameters, &given, &unread);
    let mut problems: Vec<String> = errors.iter().map(|error| show::visible(&error.to_string())).collect();
    if !action.enabled {
        problems.push("it is disabled".to_owned());
    }
    if !parameters::secret_names(&action.parameters, &given).is_empty() {
        problems.push("a check takes no secret parameters".to_owned());
    }
    if !problems.is_empty() {
        let message = format!("cannot run --check {name}:\n  {}", problems.join("\n  "));
        return Err(Failure::new(Exit::Usage, message).hint(format!("`bolt actions {name}` shows its parameters")));
    }
    let (version, class) = (wanted.version.clone(), Some(action.class));
    let request = Request { version, class, parameters: given, ..Request::new(name.clone()) };
    Ok(Some(Check { request, within: how.check_for.unwrap_or_default() }))
}
