use crate::{platform::bus::BusError, work::WorkError};

/// Why a turn came to nothing. The next one begins where it began.
#[derive(Debug, thiserror::Error)]
pub enum RelayError {
    #[error("the log cannot be read, or the position not be moved")]
    Work(#[from] WorkError),
    #[error("the log cannot be published")]
    Bus(#[from] BusError),
}
