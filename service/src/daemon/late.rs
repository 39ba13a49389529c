//! Time for decisions. What is not decided by then is refused, and that is on record as soon as the log
//! takes it: an allow may be recorded behind our back, and this says that it was not given (P02).

use std::time::Duration;

use cordon_session::Gate;

use super::api::DOOR;
use crate::control::Answer;

/// Time for one decision, its record included.
pub const DEADLINE: Duration = Duration::from_secs(10);

/// What is said of one that took longer.
pub const LATE: &str = "it was not decided in time, so it was refused";

/// What to do then.
pub const HELP: &str = "`cordon status` says whether the log takes records; try again";

/// What comes of `deciding`.
///
/// # Errors
/// The answer to give where it took longer than [`DEADLINE`].
pub async fn in_time<T>(
    gate: &Gate,
    asked: &str,
    deciding: impl Future<Output = T>,
) -> Result<T, Answer> {
    match tokio::time::timeout(DEADLINE, deciding).await {
        Ok(decided) => Ok(decided),
        Err(_elapsed) => {
            not_given(gate, asked, LATE);
            Err(Answer::Failed {
                message: LATE.into(),
                help: Some(HELP.into()),
            })
        }
    }
}

/// Records that something was not given, whatever was decided meanwhile. Nobody waits for it.
pub fn not_given(gate: &Gate, asked: &str, why: &str) {
    let (gate, asked, why) = (gate.clone(), asked.to_owned(), why.to_owned());
    tokio::spawn(async move { gate.refuse_raw(DOOR, asked.as_bytes(), why).await });
}
