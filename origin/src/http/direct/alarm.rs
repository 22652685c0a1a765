//! The one timer of a connection: asked for with each look, and set anew only where it would be
//! too late. Deadlines move on with every answer, mostly long before they come. Driver: awaits.
//!
//! Not here: the deadlines (`connection`).
#![allow(clippy::disallowed_methods, reason = "driver: sleeps")]

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::time::{Instant, Sleep};

/// See the module.
pub(super) struct Alarm<'a> {
    sleep: Pin<&'a mut Sleep>,
}

impl<'a> Alarm<'a> {
    pub(super) fn new(sleep: Pin<&'a mut Sleep>) -> Self {
        Self { sleep }
    }

    /// Resolves at `deadline`.
    pub(super) fn poll(&mut self, context: &mut Context<'_>, deadline: Instant) -> Poll<()> {
        loop {
            if self.sleep.deadline() > deadline {
                self.sleep.as_mut().reset(deadline);
            }
            ready!(self.sleep.as_mut().poll(context));
            if self.sleep.deadline() >= deadline {
                return Poll::Ready(());
            }
            self.sleep.as_mut().reset(deadline);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn it_rings_at_the_newest_deadline_whether_earlier_or_later_than_the_one_before() {
        let begun = Instant::now();
        let at = |ms| begun + Duration::from_millis(ms);
        let sleep = pin!(tokio::time::sleep_until(at(60_000)));
        let mut alarm = Alarm::new(sleep);
        for ms in [20, 30, 30, 60, 90] {
            std::future::poll_fn(|context| alarm.poll(context, at(ms))).await;
            assert!((at(ms)..at(60_000)).contains(&Instant::now()), "{ms}");
        }
    }
}
