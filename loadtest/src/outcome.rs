//! What becomes of a request, told apart by who has to worry.

use serde::Serialize;

/// The fate of one request. Each has exactly one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The right answer, whole; or the refusal that the scenario expects of it (a guard's).
    Ok,
    /// A status that the scenario allows as honest refusal of load (429, 503). No error, but no goodput.
    Shed,
    /// Any other status than the expected one.
    BadStatus,
    /// No connection was made, or its TLS handshake failed.
    Connect,
    /// The connection ended before a byte of an answer, on a fresh connection or for the second time.
    Reset,
    /// The answer was not whole when its time was over.
    Timeout,
    /// The connection ended inside of an answer; or a stream ended without its end, where that can be seen.
    Cut,
    /// A stream ended with an error event.
    ErrorEvent,
    /// The answer breaks the rules of HTTP, of the event stream, or of JSON.
    Malformed,
    /// It looks whole and is not what this request was to get: another one's, or less, or more.
    Wrong,
    /// It could not be sent: too many waited for a connection here. The load test's own failure.
    Unsent,
}

impl Outcome {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 11] = [
        Self::Ok,
        Self::Shed,
        Self::BadStatus,
        Self::Connect,
        Self::Reset,
        Self::Timeout,
        Self::Cut,
        Self::ErrorEvent,
        Self::Malformed,
        Self::Wrong,
        Self::Unsent,
    ];

    /// How many there are.
    pub const COUNT: usize = Self::ALL.len();

    /// Its name in reports.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Shed => "shed",
            Self::BadStatus => "bad_status",
            Self::Connect => "connect",
            Self::Reset => "reset",
            Self::Timeout => "timeout",
            Self::Cut => "cut",
            Self::ErrorEvent => "error_event",
            Self::Malformed => "malformed",
            Self::Wrong => "wrong",
            Self::Unsent => "unsent",
        }
    }

    /// Whether it counts as an error of the service.
    #[must_use]
    pub fn is_error(self) -> bool {
        !matches!(self, Self::Ok | Self::Shed)
    }

    /// Whether the request went away without any answer.
    #[must_use]
    pub fn is_lost(self) -> bool {
        matches!(self, Self::Connect | Self::Reset | Self::Timeout | Self::Unsent)
    }

    /// Whether an answer came that must never come.
    #[must_use]
    pub fn is_wrong(self) -> bool {
        matches!(self, Self::Malformed | Self::Wrong)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_follow_the_list() {
        for (at, outcome) in Outcome::ALL.into_iter().enumerate() {
            assert_eq!(outcome as usize, at);
            assert!(!(outcome.is_lost() && outcome.is_wrong()));
        }
    }
}
