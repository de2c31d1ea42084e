//! Reports from workers to the control thread about targets in real traffic.

use super::live::TargetState;
use std::sync::Arc;

/// Maximum number of queued reports. Reports to a full queue are counted and dropped, because a
/// target that fails so often is reported again.
pub(crate) const MAX_QUEUE: usize = 1_024;

/// One report of a worker.
#[derive(Clone, Debug)]
pub enum Report {
    /// A dial of traffic failed.
    ConnectFailed(Arc<TargetState>),
    /// A dial of traffic succeeded after earlier ones to the same target had failed.
    Connected(Arc<TargetState>),
}
