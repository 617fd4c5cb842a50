//! Lines over a grid, as inline SVG.

use std::fmt::Write as _;

const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 260.0;
/// Room for the labels on each side: left, right, top, bottom.
const LEFT: f64 = 64.0;
const RIGHT: f64 = 14.0;
const TOP: f64 = 12.0;
const BOTTOM: f64 = 40.0;

/// How the horizontal axis is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Across {
    /// Seconds of the run.
    Seconds,
    /// Shares from 0 to 1, in such a way that each nine takes the same room.
    Shares,
}

/// One line.
pub struct Line {
    /// As the legend says.
    pub name: String,
    /// Its points.
    pub points: Vec<(f64, f64)>,
}

/// A plot with its title; empty if no line has a point. `log`: the vertical axis is logarithmic.
pub fn plot(title: &str, unit: &str, across: Across, log: bool, lines: &[Line]) -> String {
    let points = || lines.iter().flat_map(|line| &line.points);
    if points().next().is_none() {
        return String::new();
    }
    let placed = |x: f64| if across == Across::Shares { -(1.0 - x.min(0.999_999)).log10() } else { x };
    let x_max = points().map(|point| placed(point.0)).fold(f64::MIN_POSITIVE, f64::max).max(1.0);
    let highest = points().map(|point| point.1).fold(0.0, f64::max);
    let lowest = points().map(|point| point.1).filter(|y| *y > 0.0).fold(f64::INFINITY, f64::min);
    let axis = Axis::new(lowest, highest, log);
    let at = |(x, y): &(f64, f64)| {
        let across = LEFT + placed(*x) / x_max * (WIDTH - LEFT - RIGHT);
        (across, TOP + (1.0 - axis.place(*y)) * (HEIGHT - TOP - BOTTOM))
    };
    let mut out = format!(
        "<figure><figcaption>{} <small>{}</small></figcaption>\n<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{}\">\n",
        escape(title),
        escape(unit),
        escape(title)
    );
    for tick in &axis.ticks {
        let (_, y) = at(&(0.0, *tick));
        let _ = writeln!(
            out,
            "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{:.1}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>",
            WIDTH - RIGHT
        );
        let _ = writeln!(
            out,
            "<text class=\"y\" x=\"{:.1}\" y=\"{:.1}\">{}</text>",
            LEFT - 6.0,
            y + 4.0,
            label(*tick)
        );
    }
    for (value, name) in ticks_across(across, x_max) {
        let (x, _) = at(&(value, axis.ticks.first().copied().unwrap_or(0.0)));
        let _ =
            writeln!(out, "<text class=\"x\" x=\"{x:.1}\" y=\"{:.1}\">{name}</text>", HEIGHT - BOTTOM + 18.0);
    }
    for (number, line) in lines.iter().enumerate() {
        let path: Vec<String> = line
            .points
            .iter()
            .map(|point| {
                let (x, y) = at(point);
                format!("{x:.1},{y:.1}")
            })
            .collect();
        let _ = writeln!(out, "<polyline class=\"line c{}\" points=\"{}\"/>", number % 6, path.join(" "));
    }
    out.push_str("</svg>\n<p class=\"legend\">");
    for (number, line) in lines.iter().enumerate() {
        let _ = write!(out, "<span class=\"c{}\">{}</span> ", number % 6, escape(&line.name));
    }
    out.push_str("</p></figure>\n");
    out
}

/// A vertical axis.
struct Axis {
    ticks: Vec<f64>,
    low: f64,
    high: f64,
    log: bool,
}

impl Axis {
    fn new(lowest: f64, highest: f64, log: bool) -> Self {
        if log && lowest > 0.0 && lowest.is_finite() {
            let (low, high) = (lowest.log10().floor(), highest.log10().ceil());
            let high = if high > low { high } else { low + 1.0 };
            let ticks = (0..=(high - low).min(12.0) as i32).map(|step| 10f64.powf(low + f64::from(step)));
            return Self { ticks: ticks.collect(), low, high, log };
        }
        let step = nice(highest.max(1e-9) / 4.0);
        let count = (highest / step).ceil().max(1.0);
        let ticks = (0..=count as u32).map(|number| f64::from(number) * step).collect();
        Self { ticks, low: 0.0, high: count * step, log: false }
    }

    /// From 0, the bottom, to 1.
    fn place(&self, value: f64) -> f64 {
        let value = if self.log { value.max(1e-9).log10() } else { value };
        ((value - self.low) / (self.high - self.low)).clamp(0.0, 1.0)
    }
}

fn ticks_across(across: Across, x_max: f64) -> Vec<(f64, String)> {
    match across {
        Across::Shares => {
            let names = ["0", "90 %", "99 %", "99.9 %", "99.99 %", "99.999 %"];
            let shares = [0.0, 0.9, 0.99, 0.999, 0.9999, 0.99999];
            shares
                .into_iter()
                .zip(names)
                .take(x_max as usize + 1)
                .map(|(x, name)| (x, name.to_owned()))
                .collect()
        }
        Across::Seconds => {
            let step = nice(x_max / 8.0).max(1.0);
            let count = (x_max / step) as u32;
            (0..=count).map(|number| f64::from(number) * step).map(|x| (x, format!("{x:.0} s"))).collect()
        }
    }
}

/// The next of 1, 2, 5 times a power of ten.
fn nice(step: f64) -> f64 {
    let power = 10f64.powf(step.log10().floor());
    let found = [1.0, 2.0, 5.0, 10.0].into_iter().find(|factor| factor * power >= step * 0.999_999);
    found.unwrap_or(10.0) * power
}

fn label(value: f64) -> String {
    match value {
        value if value >= 1e6 => format!("{:.1}M", value / 1e6),
        value if value >= 1e4 => format!("{:.0}k", value / 1e3),
        value if value == value.trunc() => format!("{value:.0}"),
        value if value >= 0.1 => format!("{value:.1}"),
        value => format!("{value:.3}").trim_end_matches('0').to_owned(),
    }
}

/// A text as it stands in HTML.
pub fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_round() {
        for (step, expected) in [(0.3, 0.5), (1.0, 1.0), (1.1, 2.0), (23.0, 50.0), (0.07, 0.1)] {
            assert!((nice(step) - expected).abs() < 1e-9, "{step}: {}", nice(step));
        }
    }

    #[test]
    fn axes_hold_their_values() {
        let axis = Axis::new(0.08, 730.0, true);
        assert_eq!(axis.ticks.len(), 6, "from 0.01 to 1000: {:?}", axis.ticks);
        assert!(axis.place(0.08) > 0.0 && axis.place(730.0) < 1.0);
        let axis = Axis::new(0.0, 0.0, true);
        assert!(axis.place(0.0).abs() < 1e-9);
        assert!(plot("empty", "", Across::Seconds, true, &[]).is_empty());
        let zeros = Line { name: "<zero>".into(), points: vec![(0.0, 0.0)] };
        assert!(plot("zeros", "", Across::Seconds, true, &[zeros]).contains("&lt;zero&gt;"));
    }
}
