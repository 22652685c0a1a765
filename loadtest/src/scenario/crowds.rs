//! The crowds of a run: who views what, how they behave, and when they come.
//!
//! Not here: joining and leaving them (`run`).

use std::sync::Arc;
use std::time::Duration;

use super::Options;
use super::population::Population;
use crate::live::Side;
use crate::view::Crowd;
use crate::view::hls::crowd::HlsCrowd;
use crate::view::hls::fleet;
use crate::view::whep::{Behaviour, Viewing, WhepCrowd};

/// Share of the packets that a lossy viewer loses.
const LOSSY: f64 = 0.2;
/// A flash crowd comes within this time.
const FLASH: Duration = Duration::from_secs(1);

/// Viewers of one kind with their course.
pub(super) struct Course {
    pub(super) crowd: Box<dyn Crowd>,
    population: Population,
    joined: usize,
    exchanged: usize,
}

impl Course {
    fn new(crowd: impl Crowd + 'static, population: Population) -> Self {
        Self { crowd: Box::new(crowd), population, joined: 0, exchanged: 0 }
    }

    /// Lets come and go who should by this time.
    pub(super) fn follow(&mut self, now: Duration) {
        let wanted = self.population.at(now);
        if let Some(more) = wanted.checked_sub(self.joined).filter(|more| *more > 0) {
            self.crowd.join(more);
            self.joined = wanted;
        }
        let wanted = self.population.exchanged(now);
        if let Some(more) = wanted.checked_sub(self.exchanged).filter(|more| *more > 0) {
            self.crowd.leave(more);
            self.crowd.join(more);
            self.exchanged = wanted;
        }
    }
}

/// Every crowd of a run, nobody in them yet.
///
/// # Errors
/// The server has no address, or no thread can be started.
pub(super) async fn gather(options: &Options) -> anyhow::Result<Vec<Course>> {
    let mut courses = Vec::new();
    let share = |share: f64| (options.whep as f64 * share).round() as usize;
    let (dead, lossy) = (share(options.dead_percent), share(options.lossy_percent));
    let good = options.whep.saturating_sub(dead + lossy);
    let usual = Behaviour { drop: options.drop_percent, dead: false };
    let ramp =
        Population { count: 0, from: Duration::ZERO, ramp: options.ramp, churn: options.churn };
    let flash = Population {
        count: options.flash,
        from: options.ramp + options.hold / 3,
        ramp: FLASH,
        churn: 0.0,
    };
    for (kind, behaviour, population) in [
        ("whep", usual, Population { count: good, ..ramp }),
        (
            "whep-lossy-bad",
            Behaviour { drop: LOSSY, dead: false },
            Population { count: lossy, churn: 0.0, ..ramp },
        ),
        (
            "whep-dead-bad",
            Behaviour { drop: 0.0, dead: true },
            Population { count: dead, churn: 0.0, ..ramp },
        ),
        ("whep-flash", usual, flash),
    ] {
        if population.count > 0 {
            let target = options.target(&options.whep_path);
            let side = Arc::new(Side::new(kind));
            let crowd = WhepCrowd::start(&target, behaviour, options.threads, side).await?;
            courses.push(Course::new(Viewing::new(crowd, target), population));
        }
    }
    if options.hls > 0 {
        let target = options.target(&options.hls_path);
        let crowd = HlsCrowd::start(&target, &options.hls_options, options.threads)?;
        courses.push(Course::new(crowd, Population { count: options.hls, ..ramp }));
    }
    if options.waiting > 0 {
        let target = options.target(&options.hls_path);
        let fleet = tokio::task::spawn_blocking(move || fleet::waiting(&target)).await??;
        let population = Population { count: options.waiting, churn: 0.0, ..ramp };
        courses.push(Course::new(fleet, population));
    }
    Ok(courses)
}
