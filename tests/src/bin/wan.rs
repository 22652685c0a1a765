//! A wide-area network on one machine, to try a cluster of several regions by hand:
//! `wan a1=a a2=a b1=b …` makes a host (a network namespace) of each, 1 ms between hosts of one
//! region, 40 ms and 1 % loss between regions. `--inside`, `--between` (milliseconds), `--loss`
//! (percent) and `--prefix` change that. It ends with its input (Ctrl-D), and reads from it:
//! `cut ONE OTHER`, `lose ONE OTHER PERCENT`, `mend [ONE OTHER]`, `counts`; ONE and OTHER are
//! hosts, regions or `*`.
//!
//! Not here: what such a network does to packets (`wan`).
#![allow(clippy::print_stdout, reason = "a command: its output is its result")]

#[cfg(target_os = "linux")]
use std::io::BufRead as _;

#[cfg(target_os = "linux")]
fn main() -> anyhow::Result<()> {
    let options = Options::read(std::env::args().skip(1))?;
    let network = options.network()?;
    println!("Hosts, each with its address in the network, and its address near this machine:");
    for host in network.hosts() {
        println!(
            "  ip netns exec {} PROGRAM…   # {} in region {}, {}, near {}",
            host.namespace(),
            host.place.name,
            host.place.region,
            host.address,
            host.near
        );
    }
    println!("Say `cut ONE OTHER`, `lose ONE OTHER PERCENT`, `mend`, `counts`; Ctrl-D ends it.");
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        let words: Vec<&str> = line.split_whitespace().collect();
        match options.obey(&network, &words) {
            Ok(said) => println!("{said}"),
            Err(error) => println!("{error:#}"),
        }
    }
    Ok(())
}

#[cfg(not(target_os = "linux"))]
fn main() -> anyhow::Result<()> {
    anyhow::bail!("network namespaces are Linux's")
}

#[cfg(target_os = "linux")]
use options::Options;

#[cfg(target_os = "linux")]
mod options {
    use std::time::Duration;

    use anyhow::{Context as _, bail};
    use headwater_tests::wan::link::Fault;
    use headwater_tests::wan::{Link, Network, Place};

    pub(super) struct Options {
        prefix: String,
        inside: Link,
        between: Link,
        places: Vec<Place>,
    }

    fn milliseconds(text: &str) -> anyhow::Result<Duration> {
        let number: u32 = text.parse().with_context(|| format!("'{text}' is no milliseconds"))?;
        Ok(Duration::from_millis(number.into()))
    }

    /// Percent, with a fraction, in parts of a million.
    fn percent(text: &str) -> anyhow::Result<u32> {
        let (whole, part) = text.split_once('.').unwrap_or((text, ""));
        let number: u32 = format!("{whole}{part:0<4}")
            .parse()
            .ok()
            .filter(|ppm| *ppm <= 1_000_000 && part.len() <= 4)
            .with_context(|| format!("'{text}' is no percentage"))?;
        Ok(number)
    }

    impl Options {
        pub(super) fn read(mut words: impl Iterator<Item = String>) -> anyhow::Result<Self> {
            let mut options = Self {
                prefix: "hw-".to_owned(),
                inside: Link::delayed(Duration::from_millis(1)),
                between: Link::delayed(Duration::from_millis(40)).losing(10_000),
                places: Vec::new(),
            };
            while let Some(word) = words.next() {
                let mut value = || words.next().with_context(|| format!("{word} what?"));
                match word.as_str() {
                    "--prefix" => options.prefix = value()?,
                    "--inside" => options.inside.delay = milliseconds(&value()?)?,
                    "--between" => options.between.delay = milliseconds(&value()?)?,
                    "--loss" => options.between.loss_ppm = percent(&value()?)?,
                    host => {
                        let Some((name, region)) = host.split_once('=') else {
                            bail!("'{host}' is not HOST=REGION, such as b1=b");
                        };
                        options.places.push(Place::new(name, region));
                    }
                }
            }
            anyhow::ensure!(!options.places.is_empty(), "which hosts? HOST=REGION, such as b1=b");
            Ok(options)
        }

        pub(super) fn network(&self) -> anyhow::Result<Network> {
            Network::make(&self.prefix, &self.places, (self.inside, self.between), 1)
        }

        pub(super) fn obey(&self, network: &Network, words: &[&str]) -> anyhow::Result<String> {
            match words {
                ["cut", one, other] => network.fault(one, other, Fault::Cut)?,
                ["lose", one, other, share] => {
                    let link = self.between.losing(percent(share)?);
                    network.fault(one, other, Fault::Like(link))?;
                }
                ["mend", one, other] => network.mend(one, other)?,
                ["mend"] => network.mend_all(),
                ["counts"] => return Ok(format!("{:?}", network.counts())),
                _ => bail!("cut ONE OTHER, lose ONE OTHER PERCENT, mend [ONE OTHER], or counts"),
            }
            Ok("done".to_owned())
        }
    }
}
