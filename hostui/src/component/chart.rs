//! Charts, drawn here as SVG: an area under a line over dotted rules, and the figures themselves in a table for
//! whoever wants or needs them.

use askama::{Template, filters::HtmlSafe};

use super::Level;

/// The width of a chart in its own units; it is stretched to where it stands.
const WIDTH: f64 = 300.0;
const HEIGHT: f64 = 54.0;
const SPARK_WIDTH: f64 = 80.0;
const SPARK_HEIGHT: f64 = 18.0;
/// Rows of the table of figures; a longer course is thinned out.
const MOST_ROWS: usize = 24;

/// A course over time.
#[derive(Clone, Debug, Template)]
#[template(path = "components/chart.html")]
pub(crate) struct Chart {
    label: String,
    /// The whole course as a path, empty for fewer than two values.
    line: String,
    area: String,
    level: Level,
    rows: Vec<(String, String)>,
    now: String,
}

impl HtmlSafe for Chart {}

impl Chart {
    /// `points` from the oldest on, each with the words for its time; `words` says a value.
    pub(crate) fn of(
        label: impl Into<String>,
        points: &[(String, f64)],
        top: f64,
        words: impl Fn(f64) -> String,
    ) -> Self {
        let values: Vec<f64> = points.iter().map(|(_, value)| *value).collect();
        let (line, area) = course(&values, top, WIDTH, HEIGHT);
        let known: Vec<_> = points.iter().filter(|(_, value)| value.is_finite()).collect();
        let every = known.len().div_ceil(MOST_ROWS).max(1);
        let rows = known.iter().rev().step_by(every).map(|(time, value)| (time.clone(), words(*value)));
        Self {
            label: label.into(),
            line,
            area,
            level: Level::Accent,
            rows: rows.collect(),
            now: known.last().map_or_else(|| "nothing yet".to_owned(), |(_, value)| words(*value)),
        }
    }

    pub(crate) fn level(mut self, level: Level) -> Self {
        self.level = level;
        self
    }
}

/// A course as small as a word.
#[derive(Clone, Debug, Template)]
#[template(
    ext = "html",
    source = r#"<svg class="chart spark" viewBox="0 0 80 18" preserveAspectRatio="none" role="img" aria-label="{{ label }}">{% if !line.is_empty() %}<path class="area" d="{{ area }}"/><path class="line" d="{{ line }}"/>{% endif %}</svg>"#
)]
pub(crate) struct Sparkline {
    label: String,
    line: String,
    area: String,
}

impl HtmlSafe for Sparkline {}

impl Sparkline {
    /// The label says the present value.
    pub(crate) fn of(label: impl Into<String>, values: &[f64], top: f64) -> Self {
        let (line, area) = course(values, top, SPARK_WIDTH, SPARK_HEIGHT);
        Self { label: label.into(), line, area }
    }
}

/// The line through the values, and the area under it. Where a value is no number nobody knows, and there is a gap.
fn course(values: &[f64], top: f64, width: f64, height: f64) -> (String, String) {
    if values.len() < 2 || top <= 0.0 {
        return (String::new(), String::new());
    }
    let step = width / u32::try_from(values.len() - 1).map_or(1.0, f64::from);
    let places: Vec<_> = (0_u32..).map(|index| f64::from(index) * step).zip(values).collect();
    let (mut lines, mut areas) = (Vec::new(), Vec::new());
    // One value alone is as wide as a step.
    let whole = places.split(|(_, value)| !value.is_finite()).filter(|known| !known.is_empty());
    for known in whole {
        let point = |(x, value): &(f64, &f64)| {
            format!("{x:.1},{:.1}", (1.0 - (**value / top).clamp(0.0, 1.0)) * height)
        };
        let mut points: Vec<_> = known.iter().map(point).collect();
        let (Some((first, _)), Some((last, value))) = (known.first(), known.last()) else { continue };
        let end = if known.len() == 1 { (last + step).min(width) } else { *last };
        if known.len() == 1 {
            points.push(point(&(end, *value)));
        }
        let line = format!("M{}", points.join(" "));
        areas.push(format!("{line} L{end:.1},{height} L{first:.1},{height}Z"));
        lines.push(line);
    }
    (lines.join(" "), areas.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_course_goes_from_the_left_to_the_right() {
        insta::assert_snapshot!(course(&[0.0, 50.0, 200.0], 100.0, 300.0, 54.0).0, @"M0.0,54.0 150.0,27.0 300.0,0.0");
        assert_eq!(course(&[1.0], 100.0, 300.0, 54.0).0, "");
        assert_eq!(course(&[1.0, 2.0], 0.0, 300.0, 54.0).0, "");
        assert_eq!(course(&[f64::NAN, f64::INFINITY], 1.0, 10.0, 10.0).0, "");
        let (line, area) = course(&[1.0, 1.0, f64::NAN, 0.0, f64::NAN], 1.0, 8.0, 10.0);
        assert_eq!(line, "M0.0,0.0 2.0,0.0 M6.0,10.0 8.0,10.0");
        assert_eq!(area, "M0.0,0.0 2.0,0.0 L2.0,10 L0.0,10Z M6.0,10.0 8.0,10.0 L8.0,10 L6.0,10Z");
    }

    #[test]
    fn a_chart_says_the_present_value_and_has_the_figures() {
        let points = [("09:00".to_owned(), 10.0), ("09:10".to_owned(), 34.0)];
        insta::assert_snapshot!(Chart::of("Processors in use", &points, 100.0, |value| format!("{value:.0} %")), @r#"<figure class="chart-figure"><svg class="chart accent" viewBox="0 0 300 54" height="54" preserveAspectRatio="none" role="img" aria-label="Processors in use, now 34 %"><path class="rule" d="M0,0H300M0,27H300M0,54H300"/><path class="area" d="M0.0,48.6 300.0,35.6 L300.0,54 L0.0,54Z"/><path class="line" d="M0.0,48.6 300.0,35.6"/></svg><details><summary>As numbers</summary><div class="scroll" tabindex="0" role="group" aria-label="Processors in use, as numbers"><table class="table"><caption class="visually-hidden">Processors in use</caption><thead><tr><th scope="col">Time</th><th scope="col" class="num">Value</th></tr></thead><tbody><tr><td class="mono">09:10</td><td class="num">34 %</td></tr><tr><td class="mono">09:00</td><td class="num">10 %</td></tr></tbody></table></div></details></figure>"#);
        assert!(Chart::of("x", &[], 1.0, |value| value.to_string()).to_string().contains("nothing yet"));
        insta::assert_snapshot!(Sparkline::of("Memory, now 5 %", &[1.0, 5.0], 100.0), @r#"<svg class="chart spark" viewBox="0 0 80 18" preserveAspectRatio="none" role="img" aria-label="Memory, now 5 %"><path class="area" d="M0.0,17.8 80.0,17.1 L80.0,18 L0.0,18Z"/><path class="line" d="M0.0,17.8 80.0,17.1"/></svg>"#);
    }
}
