//! Says on a terminal what a command waits for, when that takes more than a moment.

use std::pin::pin;
use std::time::Duration;

use console::{Term, truncate_str};
use tokio::time::{Instant, interval_at};

/// Time after which a wait is worth a line, and between two changes of the line.
const MOMENT: Duration = Duration::from_secs(1);

/// Awaits `answer`. After a second, a line on standard error says `what` it waits for, and for how long; it is removed at the end.
/// Without a terminal nothing is said.
pub(super) async fn saying<T>(what: &str, answer: impl Future<Output = T>) -> T {
    let term = Term::stderr();
    if !term.is_term() || console::is_dumb() {
        return answer.await;
    }
    let began = Instant::now();
    let (mut answer, mut ticks) = (pin!(answer), interval_at(began + MOMENT, MOMENT));
    let mut is_said = false;
    loop {
        tokio::select! {
            answer = &mut answer => {
                if is_said {
                    let _ = term.clear_line();
                }
                return answer;
            }
            _ = ticks.tick() => {
                is_said = true;
                let line = format!("bolt: waiting for {what} ({}s)", began.elapsed().as_secs());
                let width = usize::from(term.size().1).saturating_sub(1);
                let _ = term.clear_line().and_then(|()| term.write_str(&truncate_str(&line, width, "…")));
            }
        }
    }
}
