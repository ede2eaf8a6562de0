//! Sends the same request to many instances at once.

use futures_util::{StreamExt as _, stream};

use crate::connection::Agent;
use crate::error::Error;
use crate::inventory::Instance;
use crate::tls::Identity;

/// Calls `question` with each of `instances`, at most `parallel` at a time. Returns the answers in the order of `instances`.
pub async fn across<T>(
    instances: &[Instance],
    identity: &Identity,
    parallel: usize,
    question: impl AsyncFn(&Agent) -> Result<T, Error>,
) -> Vec<(Instance, Result<T, Error>)> {
    let question = &question;
    let asked = instances.iter().map(|instance| async move {
        let agent = Agent::new(instance, identity);
        let answer = question(&agent).await;
        (instance.clone(), answer)
    });
    stream::iter(asked).buffered(parallel.max(1)).collect().await
}
