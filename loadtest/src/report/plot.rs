//! Plots as SVG, by `plotters`.
//!
//! Not here: which series are plotted (`html`).

use anyhow::anyhow;
use plotters::prelude::*;

/// A plot's size, in CSS pixels.
const SIZE: (u32, u32) = (860, 300);
const COLOURS: [RGBColor; 6] = [
    RGBColor(31, 111, 180),
    RGBColor(214, 82, 38),
    RGBColor(44, 140, 70),
    RGBColor(130, 80, 170),
    RGBColor(150, 110, 40),
    RGBColor(90, 90, 90),
];

/// One line of a plot.
#[derive(Clone)]
pub(crate) struct Line {
    pub(crate) name: String,
    pub(crate) points: Vec<(f64, f64)>,
}

/// What a plot shows.
pub(crate) struct Plot<'a> {
    pub(crate) title: &'a str,
    pub(crate) across: &'a str,
    pub(crate) up: &'a str,
    pub(crate) lines: &'a [Line],
    /// Whether the horizontal axis is logarithmic.
    pub(crate) logarithmic: bool,
}

impl Plot<'_> {
    /// The plot as an SVG element; none where there is nothing to plot.
    ///
    /// # Errors
    /// The library cannot draw it.
    pub(crate) fn svg(&self) -> anyhow::Result<Option<String>> {
        let points = || self.lines.iter().flat_map(|line| &line.points);
        if points().count() < 2 {
            return Ok(None);
        }
        let least = points().map(|(x, _)| *x).fold(f64::INFINITY, f64::min);
        let most = points().map(|(x, _)| *x).fold(f64::NEG_INFINITY, f64::max);
        let top = points().map(|(_, y)| *y).fold(0.0, f64::max).max(1e-3) * 1.08;
        let most = most.max(least + 1e-3);
        let mut svg = String::new();
        let area = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        let drawn = if self.logarithmic {
            let least = least.max(0.01);
            self.draw(&area, (least..most.max(least * 2.0)).log_scale(), top)
        } else {
            self.draw(&area, least..most, top)
        };
        drawn.map_err(|error| anyhow!("{}: {error}", self.title))?;
        drop(area);
        Ok(Some(svg))
    }

    fn draw<X>(
        &self,
        area: &DrawingArea<SVGBackend<'_>, plotters::coord::Shift>,
        across: X,
        top: f64,
    ) -> Result<(), Box<dyn std::error::Error>>
    where
        X: plotters::coord::ranged1d::AsRangedCoord<Value = f64>,
        X::CoordDescType: plotters::coord::ranged1d::ValueFormatter<f64>,
    {
        area.fill(&WHITE).map_err(|error| error.to_string())?;
        let mut chart = ChartBuilder::on(area)
            .caption(self.title, ("sans-serif", 18))
            .margin(10)
            .x_label_area_size(38)
            .y_label_area_size(58)
            .build_cartesian_2d(across, 0.0..top)
            .map_err(|error| error.to_string())?;
        chart
            .configure_mesh()
            .x_desc(self.across)
            .y_desc(self.up)
            .light_line_style(WHITE)
            .draw()
            .map_err(|error| error.to_string())?;
        for (line, colour) in self.lines.iter().zip(COLOURS.iter().cycle()) {
            let series = LineSeries::new(line.points.iter().copied(), colour.stroke_width(2));
            let drawn = chart.draw_series(series).map_err(|error| error.to_string())?;
            let key = *colour;
            drawn
                .label(&line.name)
                .legend(move |(x, y)| PathElement::new([(x, y), (x + 16, y)], key.stroke_width(2)));
        }
        chart
            .configure_series_labels()
            .background_style(WHITE.mix(0.8))
            .border_style(RGBColor(200, 200, 200))
            .draw()
            .map_err(|error| error.to_string())?;
        area.present().map_err(|error| error.to_string())?;
        Ok(())
    }
}
