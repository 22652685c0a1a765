//! A report as one HTML page with plots that needs nothing else.
//!
//! Not here: text and JSON, drawing (`plot`).

use std::fmt::Write as _;

use super::plot::{Line, Plot};
use super::{Report, Sample, ViewerSample};

const STYLE: &str = "body{font:15px/1.5 system-ui,sans-serif;max-width:900px;margin:2em auto;\
    padding:0 1em;color:#222;background:#fff}h1{font-size:1.4em}pre{background:#f5f5f5;\
    padding:1em;overflow-x:auto;font-size:13px}svg{max-width:100%;height:auto;margin:.5em 0}\
    .missed{color:#b00020;font-weight:600}.kept{color:#1b7a34;font-weight:600}";

impl Report {
    /// The report as an HTML page.
    ///
    /// # Errors
    /// A plot cannot be drawn.
    pub fn html(&self) -> anyhow::Result<String> {
        let mut page = String::from("<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\">");
        let server = escape(&self.run.server);
        write!(page, "<title>Load on {server}</title><style>{STYLE}</style>")?;
        write!(page, "<h1>Load on {server}</h1>")?;
        if self.broken.is_empty() {
            page += "<p class=\"kept\">No stated limit was missed.</p>";
        }
        for broken in &self.broken {
            write!(page, "<p class=\"missed\">Missed: {}</p>", escape(broken))?;
        }
        write!(page, "<pre>{}</pre>", escape(&self.text()))?;
        for svg in self.plots()? {
            page += &svg;
        }
        write!(page, "<p>Command:</p><pre>{}</pre></html>", escape(&self.run.command))?;
        Ok(page)
    }

    fn plots(&self) -> anyhow::Result<Vec<String>> {
        let latency = [
            self.by_kind(" p50", |viewers| (viewers.frames > 0).then_some(viewers.latency.p50_ms)),
            self.by_kind(" p99", |viewers| (viewers.frames > 0).then_some(viewers.latency.p99_ms)),
        ]
        .concat();
        let distribution: Vec<_> = self
            .viewers
            .iter()
            .map(|viewers| Line {
                name: viewers.kind.clone(),
                points: viewers.distribution.iter().map(|(ms, of)| (*ms, of * 100.0)).collect(),
            })
            .collect();
        let mut cores = vec![self.line("this program", |sample| Some(sample.generator_cores))];
        if self.server.is_some() {
            cores.insert(0, self.line("server", |sample| Some(sample.server_cores)));
        }
        let memory = self.line("server", |sample| {
            (sample.server_rss_bytes > 0).then_some(sample.server_rss_bytes as f64 / 1e6)
        });
        let present = self.by_kind("", |viewers| Some(viewers.active as f64));
        let over_time =
            |title, up, lines| Plot { title, across: "seconds", up, lines, logarithmic: false };
        let plots = [
            over_time("Latency", "milliseconds", &latency[..]),
            Plot {
                title: "Cumulative distribution of the latency",
                across: "milliseconds",
                up: "% of the frames",
                lines: &distribution,
                logarithmic: true,
            },
            over_time("CPU", "cores", &cores),
            over_time("Server's memory", "MB", std::slice::from_ref(&memory)),
            over_time("Viewers", "connected", &present),
        ];
        let mut drawn = Vec::new();
        for plot in plots {
            drawn.extend(plot.svg()?);
        }
        Ok(drawn)
    }

    fn line(&self, name: &str, value: impl Fn(&Sample) -> Option<f64>) -> Line {
        let points = self.series.iter().filter_map(|s| Some((s.at_s, value(s)?))).collect();
        Line { name: name.to_owned(), points }
    }

    /// A line for each kind of viewers.
    fn by_kind(&self, suffix: &str, value: fn(&ViewerSample) -> Option<f64>) -> Vec<Line> {
        let lines = self.viewers.iter().enumerate().map(|(index, viewers)| {
            let name = format!("{}{suffix}", viewers.kind);
            self.line(&name, |sample| sample.viewers.get(index).and_then(value))
        });
        lines.filter(|line| !line.points.is_empty()).collect()
    }
}

/// A page of a text and drawn plots.
pub(crate) fn page(title: &str, text: &str, plots: &[String]) -> String {
    let title = escape(title);
    format!(
        "<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\"><title>{title}</title>\
         <style>{STYLE}</style><h1>{title}</h1><pre>{}</pre>{}</html>",
        escape(text),
        plots.concat()
    )
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{Server, Viewers};

    #[test]
    fn the_page_holds_text_and_plots_and_nothing_from_elsewhere() {
        let viewers = Viewers {
            kind: "whep".to_owned(),
            distribution: vec![(0.5, 0.2), (3.0, 0.9), (40.0, 1.0)],
            ..Viewers::default()
        };
        let sample = |at: u32| Sample {
            at_s: f64::from(at),
            server_cores: 0.1,
            viewers: vec![ViewerSample { active: 3, frames: 9, ..ViewerSample::default() }],
            ..Sample::default()
        };
        let report = Report {
            viewers: vec![viewers],
            server: Some(Server::default()),
            series: (1..5).map(sample).collect(),
            broken: vec!["latency > <limit>".to_owned()],
            ..Report::default()
        };
        let page = report.html().unwrap();
        assert!(page.contains("latency &gt; &lt;limit&gt;"));
        assert!(page.matches("<svg").count() >= 4, "{page}");
        let elsewhere = page.replace("http://www.w3.org/2000/svg", "");
        assert!(!elsewhere.contains("http"), "{page}");
    }

    #[test]
    fn a_report_of_nothing_is_a_page_too() {
        assert!(Report::default().html().unwrap().contains("</html>"));
    }
}
