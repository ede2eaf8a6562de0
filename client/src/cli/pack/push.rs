//! `bolt pack push` and `bolt pack unpush`: try an unsigned pack on a few instances, for a while.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use packs_schema::agent::rest::{Pushed, Unpushed};
use packs_schema::base::name::{InstanceId, PackName};
use packs_schema::base::quantity::{format_bytes, parse_duration};
use serde_json::{Value, json};

use super::failure;
use crate::cli::context::{Answers, Context};
use crate::cli::failure::{Exit, Failure};
use crate::cli::select::SelectArgs;
use crate::connection::Push;
use crate::pack;
use crate::show::{self, visible, when};
use crate::{errln, outln};

/// Put a pack on instances without a signature, for a while, where their agent.toml allows it.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  bolt pack push ./cassandra --to i-0abc --ttl 30m")]
pub struct PushCommand {
    /// The pack's directory, or an archive of `bolt pack build`.
    dir: PathBuf,
    /// Instances to push to.
    #[arg(long, value_name = "ID,…", value_delimiter = ',', required = true)]
    to: Vec<InstanceId>,
    /// Time after which it expires, such as 30m [default: that of the instance].
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    ttl: Option<Duration>,
}

/// Remove a pushed version before it expires: the signed one is active again.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  bolt pack unpush cassandra --from i-0abc")]
pub struct UnpushCommand {
    /// The pack.
    pack: PackName,
    /// Instances to remove it from.
    #[arg(long, value_name = "ID,…", value_delimiter = ',', required = true)]
    from: Vec<InstanceId>,
}

/// Runs `bolt pack push`.
pub(in crate::cli) async fn push(command: PushCommand, context: Context) -> Result<Exit, Failure> {
    let select = SelectArgs::these(command.to);
    // Before anything is built: there may be no inventory, or no such instance.
    context.select(&select).await?;
    let built = pack::load(&command.dir).map_err(|e| failure(&e))?;
    let (name, digest, size) = (built.pack.name.clone(), built.digest.clone(), built.archive.size_bytes());
    let version = built.pack.version.clone();
    if !context.json {
        errln!("{name} {version} ({}), {}: pushing", digest.short(), format_bytes(size));
    }
    let push = Push::new(built, command.ttl).map_err(|e| failure(&e))?;
    let is_text = !context.json;
    let answers = context
        .ask(&select, async |agent| {
            let answer = agent.push(&push).await;
            if let (true, Ok(pushed)) = (is_text, &answer) {
                report(agent.instance().id().as_str(), pushed);
            }
            answer
        })
        .await?;
    let exit = answers.report_final()?;
    let failed = answers.failed_json();
    let Answers { given, .. } = answers;
    if context.json {
        let instances: Vec<Value> = given.iter().map(|(i, p)| json!({ "instance": i.id(), "pushed": p })).collect();
        let all = json!({ "pack": name, "version": version, "digest": digest, "size_bytes": size,
            "instances": instances, "failed": failed });
        outln!("{}", show::json(&all));
    }
    let known = given.iter().all(|(_, pushed)| pushed.dev.is_some());
    Ok(if known { exit } else { Exit::Failed })
}

fn report(instance: &str, pushed: &Pushed) {
    let Pushed { pack, version, digest, dev, signed, warning } = pushed;
    let Some(dev) = dev else {
        outln!("{instance}: {pack} {version} is not known to be active yet; `bolt packs` shows when it is");
        return;
    };
    let over = match signed {
        Some(signed) => format!("over the signed {signed}"),
        None => "and there is no signed version".to_owned(),
    };
    outln!("{instance}: {pack} {version} ({}) until {}, {over}", digest.short(), when::at(dev.until_ms));
    if let Some(warning) = warning {
        errln!("{instance}: {}", visible(warning));
    }
}

/// Runs `bolt pack unpush`.
pub(in crate::cli) async fn unpush(command: UnpushCommand, context: Context) -> Result<Exit, Failure> {
    let UnpushCommand { pack, from } = command;
    let answers = context.ask(&SelectArgs::these(from), async |agent| agent.unpush(&pack).await).await?;
    let exit = answers.report_final()?;
    let failed = answers.failed_json();
    let Answers { given, .. } = answers;
    if context.json {
        let instances: Vec<Value> = given.iter().map(|(i, u)| json!({ "instance": i.id(), "unpushed": u })).collect();
        outln!("{}", show::json(&json!({ "pack": pack, "instances": instances, "failed": failed })));
    } else {
        for (instance, Unpushed { done, version, .. }) in &given {
            let now = match (done, version) {
                (false, _) => "not known to be gone yet; `bolt packs` shows when it is".to_owned(),
                (true, Some(version)) => format!("the signed {version} is active again"),
                (true, None) => "gone; no version of it is active".to_owned(),
            };
            outln!("{}: {pack}: {now}", instance.id());
        }
    }
    let known = given.iter().all(|(_, unpushed)| unpushed.done);
    Ok(if known { exit } else { Exit::Failed })
}
