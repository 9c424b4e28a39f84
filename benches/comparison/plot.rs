//! Plots as SVG, each for a light and for a dark background: speed over the payload's size.

use std::path::Path;

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use crate::contestant::Kind;
use crate::report::{Cell, Report, Way, bytes};

/// Pixels.
const SIZE: (u32, u32) = (720, 400);

/// Colours that are read on one background.
struct Theme {
    name: &'static str,
    text: RGBColor,
    grid: RGBColor,
    /// Of each kind that is drawn.
    kinds: [(Kind, RGBColor); 6],
}

const fn rgb(colour: u32) -> RGBColor {
    RGBColor((colour >> 16) as u8, (colour >> 8) as u8, colour as u8)
}

const fn theme(name: &'static str, text: u32, grid: u32, kinds: [u32; 6]) -> Theme {
    use Kind::*;
    let [rbytea, encrypted, bytea, object, raw, limit] = kinds;
    Theme {
        name,
        text: rgb(text),
        grid: rgb(grid),
        kinds: [
            (Rbytea, rgb(rbytea)),
            (Encrypted, rgb(encrypted)),
            (Bytea, rgb(bytea)),
            (LargeObject, rgb(object)),
            (Raw, rgb(raw)),
            (Limit, rgb(limit)),
        ],
    }
}

const THEMES: [Theme; 2] = [
    theme("light", 0x24292f, 0xd8dee4, [0xcf222e, 0xbc6400, 0x0550ae, 0x6639ba, 0x57606a, 0x8c959f]),
    theme("dark", 0xe6edf3, 0x30363d, [0xff7b72, 0xf0a04b, 0x79c0ff, 0xd2a8ff, 0xadbac7, 0x768390]),
];

/// Writes every plot that there are figures for.
pub fn write(report: &Report, to: &Path) {
    for theme in &THEMES {
        for (name, title, way, rows, clients) in [
            ("write-1", "write, 1 row per commit", Way::Write, 1, 1),
            ("write-100", "write, 100 rows per commit", Way::Write, 100, 1),
            ("write-4", "write, 1 row per commit, 4 clients", Way::Write, 1, 4),
            ("read", "read", Way::Read, 1, 1),
        ] {
            let series = series(report, theme, way, rows, clients);
            if series.iter().any(|(.., points)| points.len() > 1) {
                let path = to.join(format!("benchmark-{name}-{}.svg", theme.name));
                draw(&path, title, theme, &series).unwrap();
            }
        }
    }
}

type Series = (Kind, RGBColor, Vec<(f64, f64)>);

/// MB/s over bytes of a payload.
fn series(report: &Report, theme: &Theme, way: Way, rows: usize, clients: usize) -> Vec<Series> {
    let mut all = Vec::new();
    for (kind, colour) in theme.kinds {
        let mut points = Vec::new();
        for measured in &report.cells {
            let cell = Cell { rows, clients, compressible: false, ..measured.cell };
            if cell == measured.cell
                && let Some(speed) = report.speed(cell, kind, way)
            {
                points.push((cell.size as f64, speed / 1e6));
            }
        }
        if !points.is_empty() {
            all.push((kind, colour, points));
        }
    }
    all
}

fn draw(path: &Path, title: &str, theme: &Theme, all: &[Series]) -> Result<(), Box<dyn std::error::Error>> {
    let points = || all.iter().flat_map(|(.., points)| points);
    let range = |values: &mut dyn Iterator<Item = f64>| {
        values.fold((f64::INFINITY, 0.0_f64), |(least, most), value| (least.min(value), most.max(value)))
    };
    let (smallest, largest) = range(&mut points().map(|(size, _)| *size));
    let (slowest, fastest) = range(&mut points().map(|(_, speed)| *speed));
    let area = SVGBackend::new(path, SIZE).into_drawing_area();
    let text = |pixels: u32| TextStyle::from(("sans-serif", pixels).into_font()).color(&theme.text);
    let mut chart = ChartBuilder::on(&area)
        .margin(12)
        .margin_right(150)
        .caption(title, text(18))
        .x_label_area_size(36)
        .y_label_area_size(56)
        .build_cartesian_2d((smallest..largest).log_scale(), (slowest / 1.3..fastest * 1.3).log_scale())?;
    let mut sizes: Vec<f64> = points().map(|(size, _)| *size).collect();
    sizes.sort_by(f64::total_cmp);
    sizes.dedup();
    chart
        .configure_mesh()
        .disable_x_mesh()
        .x_labels(0)
        .light_line_style(TRANSPARENT)
        .bold_line_style(theme.grid)
        .axis_style(theme.grid)
        .y_desc("MB/s")
        .y_label_formatter(&|speed| format!("{speed:.0}"))
        .label_style(text(13))
        .axis_desc_style(text(13))
        .draw()?;
    for (_, colour, points) in all {
        chart.draw_series(LineSeries::new(points.iter().copied(), colour.stroke_width(2)))?;
        chart.draw_series(points.iter().map(|point| Circle::new(*point, 3, colour.filled())))?;
    }
    // The scale of a logarithmic axis is not that of the sizes; so they are written where they are.
    let plane = chart.plotting_area();
    let (_, bottom) = plane.get_pixel_range();
    for size in sizes {
        let (x, _) = plane.map_coordinate(&(size, slowest));
        let style = text(13).pos(Pos::new(HPos::Center, VPos::Top));
        area.draw(&Text::new(bytes(size as usize), (x, bottom.end + 8), style))?;
    }
    // Names beside the lines' ends, apart from each other.
    let mut ends: Vec<(i32, Kind, RGBColor, i32)> = all
        .iter()
        .filter_map(|(kind, colour, points)| {
            let (x, y) = plane.map_coordinate(points.last()?);
            Some((y, *kind, *colour, x))
        })
        .collect();
    ends.sort_by_key(|(y, ..)| *y);
    let mut above = i32::MIN;
    for (y, kind, colour, x) in ends {
        let y = y.max(above.saturating_add(16));
        above = y;
        let style = text(13).color(&colour).pos(Pos::new(HPos::Left, VPos::Center));
        area.draw(&Text::new(kind.name(), (x + 10, y), style))?;
    }
    area.present()?;
    Ok(())
}
