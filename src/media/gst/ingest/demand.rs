//! Whether an ingest is wanted: always, or only while somebody watches or records it.

use std::{pin::pin, sync::Arc, time::Duration};

use futures_util::future::select_all;
use tokio::{sync::watch, time::timeout};

use super::output::Output;

/// Whoever watches may be between two subscriptions, and a player may ask again: it goes on for so long.
const KEPT_FOR: Duration = Duration::from_secs(3);

/// What an ingest's tracks are read by.
#[derive(Clone, Debug)]
pub(super) struct Demand {
    always: bool,
    readers: Vec<watch::Receiver<usize>>,
}

impl Demand {
    pub(super) fn new(on_demand: bool, outputs: &[Arc<Output>]) -> Self {
        Self { always: !on_demand, readers: outputs.iter().map(|output| output.track.readers()).collect() }
    }

    pub(super) fn is_wanted(&self) -> bool {
        self.always || self.readers.iter().any(|readers| *readers.borrow() > 0)
    }

    /// Resolves once it is wanted.
    pub(super) async fn wanted(&self) {
        if self.is_wanted() {
            return;
        }
        let each = self.readers.iter().cloned().map(|mut readers| {
            Box::pin(async move {
                // The tracks outlive this: there is no error.
                let _ = readers.wait_for(|readers| *readers > 0).await;
            })
        });
        if self.readers.is_empty() {
            // There are no tracks that somebody could read.
            return std::future::pending().await;
        }
        select_all(each).await;
    }

    /// Resolves once nobody has wanted it for some seconds; never, if it is wanted always.
    pub(super) async fn unwanted(&self) {
        if self.always {
            return std::future::pending().await;
        }
        loop {
            for readers in &self.readers {
                let _ = readers.clone().wait_for(|readers| *readers == 0).await;
            }
            if !self.is_wanted() && timeout(KEPT_FOR, pin!(self.wanted())).await.is_err() {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn without_tracks_nobody_wants_it() {
        let demand = Demand::new(true, &[]);
        assert!(timeout(Duration::from_secs(60), demand.wanted()).await.is_err());
        timeout(Duration::from_secs(60), demand.unwanted()).await.unwrap();
    }
}
