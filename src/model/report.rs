//! What a worker tells the control thread about a target's behaviour in real traffic.

use super::live::TargetState;
use std::sync::Arc;

/// Reports that may wait for the control thread. A full queue drops them and counts: a target that
/// fails so often will be reported again.
pub const MAX_QUEUE: usize = 1_024;

/// One observation.
#[derive(Clone, Debug)]
pub enum Report {
    /// One dial of traffic failed.
    ConnectFailed(Arc<TargetState>),
    /// A fresh connection was made to the traffic address of a target at which dials have failed.
    Connected(Arc<TargetState>),
}
