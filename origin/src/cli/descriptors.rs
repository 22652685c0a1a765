//! The process's file descriptors: as many as the system grants.
//!
//! Not here: the limits on connections that keep within them (`config`).

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::config::RawConfig;

/// Descriptors of the node itself: listeners, workers' pollers, log, data folder.
const OWN: u64 = 128;

/// Raises the soft limit to the hard one, and warns when the configured connections are more.
pub(super) fn raise(values: &RawConfig) {
    let limit = getrlimit(Resource::Nofile);
    // None is no limit.
    let Some(hard) = limit.maximum else { return };
    let raised = Rlimit { current: Some(hard), maximum: Some(hard) };
    let granted = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => hard,
        Err(error) => {
            tracing::warn!(%error, "the limit on open files stays where it is");
            limit.current.unwrap_or(hard)
        }
    };
    let limits = &values.limits;
    let wanted = OWN + u64::from(limits.http_connections) + u64::from(limits.rtmp_connections);
    if granted < wanted {
        tracing::warn!(
            granted,
            wanted,
            "fewer files may be open than [limits] http_connections and rtmp_connections add up to: \
             raise the limit (ulimit -Hn, LimitNOFILE=) or lower these"
        );
    }
}
