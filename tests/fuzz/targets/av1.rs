//! AV1 temporal units and the configuration record.
//!
//! Not here: what correct input means (the parsers' own tests).
#![no_main]

use headwater_media::codec::av1::{Av1Config, TemporalUnits};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let mut units = TemporalUnits::new();
    if let Ok(unit) = units.take(data) {
        assert!(units.take(&unit.payload).is_ok(), "what is on the bus reads back");
    }
    if let Ok(config) = Av1Config::from_av1c(data) {
        assert_eq!(Av1Config::from_av1c(&config.to_av1c()), Ok(config));
    }
});
