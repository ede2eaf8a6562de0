//! Signs of life of the api, by which one that runs and answers nothing is noticed and replaced.
//!
//! ```text
//!  launcher: a question, LOOKS times in `api.hang_after` ── socket pair ──▶ api: its event loop answers
//! ```
//!
//! An api is hung after [`LOOKS`] questions in a row without an answer. Questions count, not time: a host that was suspended, or so
//! busy that the launcher did not run either, adds one at most. Before its first answer an api is never hung: it recovers, or is of
//! an earlier release, which has no answers. Neither end waits for the other, and nothing that the api writes is read but the fact
//! that it did.
//!
//! A question carries the number of the launcher's open descriptors, for the metrics: only root can list them.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use packs_schema::agent::launch::alive;

use crate::proc;

/// Questions without an answer after which an api is hung.
const LOOKS: u32 = 4;
/// Maximum bytes of answers that are read at once; an api of this release writes one.
const CHUNK: usize = 64;

/// The launcher's end.
#[derive(Debug)]
pub(super) struct SignOfLife {
    socket: UnixStream,
    every: Duration,
    /// Time of the next question.
    next: Instant,
    /// Time of the newest question.
    asked: Instant,
    /// Time of the newest question that was answered; `None` before the first answer.
    alive: Option<Instant>,
    /// Number of questions in a row without an answer.
    missed: u32,
}

impl SignOfLife {
    /// Asks the first question of an api that is about to be started; returns the api's end as well.
    pub(super) fn begin(hang_after: Duration, now: Instant) -> std::io::Result<(SignOfLife, UnixStream)> {
        let (ours, theirs) = UnixStream::pair()?;
        ours.set_nonblocking(true)?;
        let every = hang_after / LOOKS;
        let mut life = SignOfLife { socket: ours, every, next: now, asked: now, alive: None, missed: 0 };
        life.ask(now);
        Ok((life, theirs))
    }

    fn ask(&mut self, now: Instant) {
        // Full if the api has not read for very long: then questions wait for it.
        let _ = self.socket.write(&alive::question(proc::open_descriptors()));
        (self.asked, self.next) = (now, now + self.every);
    }

    /// Looks for an answer, if it is time, and asks again. Returns true once, when the api is hung.
    pub(super) fn is_hung(&mut self, now: Instant) -> bool {
        if now < self.next {
            return false;
        }
        if matches!(self.socket.read(&mut [0; CHUNK]), Ok(1..)) {
            (self.alive, self.missed) = (Some(self.asked), 0);
        } else if self.alive.is_some() {
            self.missed = self.missed.saturating_add(1);
        }
        self.ask(now);
        self.missed == LOOKS
    }

    /// Returns true if the api is hung.
    pub(super) fn is_known_hung(&self) -> bool {
        self.hung_since().is_some()
    }

    /// Returns the time up to which the api is known to have lived if it is hung, else `None`.
    fn hung_since(&self) -> Option<Instant> {
        self.alive.filter(|_| self.missed >= LOOKS)
    }

    /// Returns how long an api that was started at `since` ran before it hung, or has run until `now`: the time in which it hung
    /// is not one in which it was healthy.
    pub(super) fn running_time(&self, since: Instant, now: Instant) -> Duration {
        self.hung_since().unwrap_or(now).saturating_duration_since(since)
    }

    /// Returns the time of the next look.
    pub(super) fn next_look(&self) -> Instant {
        self.next
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVERY: Duration = Duration::from_secs(15);

    struct World {
        life: SignOfLife,
        api: UnixStream,
        now: Instant,
    }

    impl World {
        fn new() -> World {
            let now = Instant::now();
            let (life, api) = SignOfLife::begin(EVERY * LOOKS, now).unwrap();
            World { life, api, now }
        }

        fn look(&mut self) -> bool {
            self.now += EVERY;
            self.life.is_hung(self.now)
        }

        /// Reads what was asked, and answers.
        fn answer(&mut self) {
            assert!(self.api.read(&mut [0; 512]).unwrap() > 0);
            self.api.write_all(&[1]).unwrap();
        }
    }

    #[test]
    fn an_api_is_hung_after_four_questions_without_an_answer_and_never_before_its_first() {
        let mut world = World::new();
        assert!((0..1000).all(|_| !world.look()), "it has given none yet, and the launcher does not wait for it");
        world.answer();
        assert!(!world.look());
        assert!((0..3).all(|_| !world.look()));
        world.answer();
        assert!(!world.look(), "a late sign counts");
        let alive = world.life.alive;
        assert!((0..3).all(|_| !world.look()) && world.life.hung_since().is_none());
        assert!(world.look());
        assert_eq!(world.life.hung_since(), alive);
        assert!((0..20).all(|_| !world.look()), "it is said once");
    }

    #[test]
    fn each_question_carries_the_number_of_open_descriptors() {
        let mut world = World::new();
        let told = |world: &mut World| {
            let mut read = [0; 512];
            let length = world.api.read(&mut read).unwrap();
            alive::open_fds(&read[..length]).unwrap()
        };
        assert!(told(&mut world) >= 2, "the socket pair, from the first question on");
        let held: Vec<_> = (0..100).map(|_| std::fs::File::open("/dev/null").unwrap()).collect();
        world.look();
        assert!(told(&mut world) >= 102);
        drop(held);
    }

    #[test]
    fn one_answer_in_each_four_questions_is_enough() {
        let mut world = World::new();
        for _ in 0..100 {
            world.answer();
            assert!((0..4).all(|_| !world.look()));
        }
    }

    #[test]
    fn time_in_which_the_launcher_did_not_look_does_not_count() {
        let mut world = World::new();
        world.answer();
        assert!(!world.look());
        // The host was suspended for an hour.
        world.now += Duration::from_secs(3600);
        let late = world.now;
        assert!(
            (0..5).all(|second| !world.life.is_hung(late + Duration::from_secs(second))),
            "looks too early do not count either"
        );
        assert_eq!(world.life.next_look(), late + EVERY);
        assert_eq!(world.life.missed, 1);
    }

    #[test]
    fn an_api_that_closes_its_end_or_floods_it_is_as_any_other() {
        let mut world = World::new();
        world.api.write_all(&[7; 10_000]).unwrap();
        assert!((0..20).all(|_| !world.look()));
        let mut world = World::new();
        world.answer();
        assert!(!world.look());
        world.api = UnixStream::pair().unwrap().0;
        assert!((0..3).all(|_| !world.look()));
        assert!(world.look());
    }

    #[test]
    fn the_time_in_which_it_hung_is_not_running_time() {
        let mut world = World::new();
        let begun = world.now;
        world.answer();
        assert!(!world.look());
        assert_eq!(world.life.running_time(begun, world.now), EVERY, "it lives");
        while !world.look() {}
        // An answer proves life up to its question, and the first question is asked at the start.
        assert_eq!(world.life.running_time(begun, world.now), Duration::ZERO);
        let mut world = World::new();
        let begun = world.now;
        for _ in 0..8 {
            world.answer();
            assert!(!world.look());
        }
        while !world.look() {}
        assert_eq!(world.life.running_time(begun, world.now), EVERY * 7);
    }
}
