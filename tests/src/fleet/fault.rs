//! Faults of simulated instances, and which instance has which.

use super::Setup;
use crate::Random;

/// Behaviour of a simulated instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Fault {
    /// None: answers as an agent does.
    Healthy,
    /// The action exits with status 1.
    ActionFails,
    /// The action outlasts the wait of the request that started it.
    RunsLong,
    /// The first answer to a start breaks off after the execution was started.
    LosesFirstAnswer,
    /// Answers the first two starts with 503 `unavailable` and Retry-After.
    Starting,
    /// Answers 503 `queue_full` with Retry-After.
    QueueFull,
    /// Answers 429 `rate_exceeded` with Retry-After.
    RateExceeded,
    /// Answers 403.
    Forbidden,
    /// Has no such action.
    NoSuchAction,
    /// Nothing listens at its address.
    Dead,
    /// Accepts connections and never sends a byte.
    SilentAfterAccept,
    /// Resets connections as soon as they are accepted.
    ResetsAfterAccept,
    /// Resets connections after the ClientHello.
    ResetsInHandshake,
    /// Resets connections after the request, and starts nothing.
    ResetsAfterRequest,
    /// Starts the execution, and resets the connection in the middle of each answer.
    ResetsInAnswer,
    /// Has the certificate of another instance.
    CertificateOfAnother,
    /// Its answers name another instance.
    AnswersAsAnother,
    /// Its output never ends.
    EndlessOutput,
    /// Answers with a JSON document of 64 MiB.
    HugeAnswer,
    /// Its output and reasons hold terminal escape sequences.
    ControlCharacters,
    /// Answers 200 with a page of HTML.
    AnswersHtml,
    /// Sends bytes that are not HTTP.
    NotHttp,
    /// Reads the request, starts nothing, and never answers. A client gives up after its time limit.
    SilentAfterRequest,
    /// Sends half of an answer and stops. A client gives up after its time limit.
    StopsInAnswer,
}

impl Fault {
    /// Faults that a client notices within seconds.
    pub const ALL: [Fault; 21] = [
        Fault::ActionFails,
        Fault::RunsLong,
        Fault::LosesFirstAnswer,
        Fault::Starting,
        Fault::QueueFull,
        Fault::RateExceeded,
        Fault::Forbidden,
        Fault::NoSuchAction,
        Fault::Dead,
        Fault::SilentAfterAccept,
        Fault::ResetsAfterAccept,
        Fault::ResetsInHandshake,
        Fault::ResetsAfterRequest,
        Fault::ResetsInAnswer,
        Fault::CertificateOfAnother,
        Fault::AnswersAsAnother,
        Fault::EndlessOutput,
        Fault::HugeAnswer,
        Fault::ControlCharacters,
        Fault::AnswersHtml,
        Fault::NotHttp,
    ];
    /// Faults that cost a client minutes: it waits for an answer until its time limit, and asks again.
    pub const PATIENT: [Fault; 2] = [Fault::SilentAfterRequest, Fault::StopsInAnswer];

    /// Returns the outcome that a client must report.
    pub fn outcome(self) -> &'static str {
        match self {
            Fault::Healthy
            | Fault::RunsLong
            | Fault::LosesFirstAnswer
            | Fault::Starting
            | Fault::EndlessOutput
            | Fault::ControlCharacters => "succeeded",
            Fault::ActionFails => "failed",
            Fault::QueueFull | Fault::RateExceeded => "busy",
            Fault::Forbidden => "unauthorized",
            Fault::NoSuchAction => "no_such_action",
            Fault::CertificateOfAnother | Fault::AnswersAsAnother => "wrong_instance",
            Fault::Dead
            | Fault::SilentAfterAccept
            | Fault::ResetsAfterAccept
            | Fault::ResetsInHandshake
            | Fault::ResetsAfterRequest
            | Fault::ResetsInAnswer
            | Fault::HugeAnswer
            | Fault::AnswersHtml
            | Fault::NotHttp
            | Fault::SilentAfterRequest
            | Fault::StopsInAnswer => "unreachable",
        }
    }

    /// Returns the number of executions that one run starts on the instance.
    pub fn starts(self) -> u32 {
        match self {
            Fault::Healthy
            | Fault::ActionFails
            | Fault::RunsLong
            | Fault::LosesFirstAnswer
            | Fault::Starting
            | Fault::ResetsInAnswer
            | Fault::AnswersAsAnother
            | Fault::EndlessOutput
            | Fault::HugeAnswer
            | Fault::ControlCharacters
            | Fault::AnswersHtml
            | Fault::StopsInAnswer => 1,
            Fault::QueueFull
            | Fault::RateExceeded
            | Fault::Forbidden
            | Fault::NoSuchAction
            | Fault::Dead
            | Fault::SilentAfterAccept
            | Fault::ResetsAfterAccept
            | Fault::ResetsInHandshake
            | Fault::ResetsAfterRequest
            | Fault::CertificateOfAnother
            | Fault::NotHttp
            | Fault::SilentAfterRequest => 0,
        }
    }
}

/// Returns the fault of each instance: the faulty ones get each fault in turn, and the order is shuffled by the seed.
pub(super) fn assign(setup: &Setup) -> Vec<Fault> {
    let total = setup.instances as usize;
    let faulty = total * setup.faulty_percent as usize / 100;
    let patient = Fault::PATIENT.into_iter().filter(|_| setup.patient);
    let mut faults: Vec<Fault> = Fault::ALL.into_iter().chain(patient).cycle().take(faulty).collect();
    faults.resize(total, Fault::Healthy);
    let mut random = Random::new(setup.seed);
    for last in (1..total).rev() {
        let other = usize::try_from(random.below(last as u64 + 1)).unwrap_or_default();
        faults.swap(last, other);
    }
    faults
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_decides_and_every_fault_occurs() {
        let setup = Setup { faulty_percent: 50, ..Setup::healthy(100) };
        let faults = assign(&setup);
        assert_eq!(faults, assign(&setup));
        assert_ne!(faults, assign(&Setup { seed: 2, ..setup }));
        assert_eq!(faults.iter().filter(|fault| **fault == Fault::Healthy).count(), 50);
        assert!(Fault::ALL.iter().all(|fault| faults.contains(fault)));
        let patient = assign(&Setup { patient: true, ..setup });
        assert!(Fault::PATIENT.iter().all(|fault| patient.contains(fault) && !faults.contains(fault)));
    }
}
