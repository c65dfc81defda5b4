//! Graphs for those without a browser: CSV, and a picture.

use std::fmt::Write;

use embedded_graphics::mono_font::MonoTextStyle;
use embedded_graphics::mono_font::ascii::FONT_7X13;
use embedded_graphics::pixelcolor::Rgb888;
use embedded_graphics::prelude::*;
use embedded_graphics::primitives::{Line, PrimitiveStyle, Rectangle};
use embedded_graphics::text::Text;
use evenkeel_api as api;

const WIDTH: u32 = 900;
/// Of one column.
const HEIGHT: u32 = 170;
const LEFT: i32 = 90;
const TOP: i32 = 28;

pub fn csv(series: &api::Series) -> String {
    let mut out = String::from("time");
    for column in &series.columns {
        let _ = write!(out, ",{}", column.name);
    }
    out.push_str("\r\n");
    let rows = series.columns.iter().map(|c| c.points.len()).max().unwrap_or(0);
    for row in 0..rows {
        let _ = write!(out, "{}", series.start + row as u64 * series.step_seconds);
        for column in &series.columns {
            match column.points.get(row) {
                Some(Some(value)) => drop(write!(out, ",{value}")),
                _ => out.push(','),
            }
        }
        out.push_str("\r\n");
    }
    out
}

struct Canvas {
    size: Size,
    pixels: Vec<u8>,
}

impl OriginDimensions for Canvas {
    fn size(&self) -> Size {
        self.size
    }
}

impl DrawTarget for Canvas {
    type Color = Rgb888;
    type Error = std::convert::Infallible;

    fn draw_iter<I: IntoIterator<Item = Pixel<Rgb888>>>(&mut self, pixels: I) -> Result<(), Self::Error> {
        for Pixel(at, color) in pixels {
            let inside = u32::try_from(at.x).is_ok_and(|x| x < self.size.width)
                && u32::try_from(at.y).is_ok_and(|y| y < self.size.height);
            if inside {
                let place = (at.y as usize * self.size.width as usize + at.x as usize) * 3;
                self.pixels[place..place + 3].copy_from_slice(&[color.r(), color.g(), color.b()]);
            }
        }
        Ok(())
    }
}

/// A PNG with one graph a column.
pub fn png(title: &str, series: &api::Series) -> Option<Vec<u8>> {
    let height = HEIGHT * series.columns.len().max(1) as u32;
    let size = Size::new(WIDTH, height);
    let mut canvas = Canvas { size, pixels: vec![255; (WIDTH * height * 3) as usize] };
    for (at, column) in series.columns.iter().enumerate() {
        draw(&mut canvas, at as i32 * HEIGHT as i32, title, series, column);
    }
    let mut out = Vec::new();
    let mut encoder = png::Encoder::new(&mut out, WIDTH, height);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    encoder.write_header().ok()?.write_image_data(&canvas.pixels).ok()?;
    Some(out)
}

fn draw(canvas: &mut Canvas, top: i32, title: &str, series: &api::Series, column: &api::Column) {
    let (ink, faint, line) = (Rgb888::new(30, 41, 59), Rgb888::new(203, 213, 225), Rgb888::new(3, 105, 161));
    let text = MonoTextStyle::new(&FONT_7X13, ink);
    let mut say = |what: &str, x: i32, y: i32| {
        let plain: String =
            what.chars().map(|c| if c.is_ascii() && !c.is_control() { c } else { '?' }).collect();
        let _ = Text::new(&plain, Point::new(x, y), text).draw(canvas);
    };
    say(&format!("{title}: {} ({})", column.title, column.unit), LEFT, top + 16);
    let most = column.points.iter().flatten().copied().fold(0.0_f32, f32::max);
    let most = if most > 0.0 { most } else { 1.0 };
    let (width, height) = (WIDTH as i32 - LEFT - 12, HEIGHT as i32 - TOP - 26);
    let bottom = top + TOP + height;
    say(&format!("{most:>11.1}"), 4, top + TOP + 5);
    say("0", 74, bottom + 4);
    let time = |seconds: u64| {
        let at = i64::try_from(seconds).ok().and_then(|s| jiff::Timestamp::from_second(s).ok());
        at.map_or_else(String::new, |t| t.strftime("%F %T UTC").to_string())
    };
    say(&time(series.start), LEFT, bottom + 17);
    let end = series.start + series.step_seconds * column.points.len() as u64;
    say(&time(end), WIDTH as i32 - 12 - 23 * 7, bottom + 17);
    let frame = Rectangle::new(Point::new(LEFT, top + TOP), Size::new(width as u32, height as u32));
    let _ = frame.into_styled(PrimitiveStyle::with_stroke(faint, 1)).draw(canvas);
    let last = column.points.len().saturating_sub(1).max(1) as f32;
    let place = |at: usize, value: f32| {
        let x = LEFT + (at as f32 / last * width as f32) as i32;
        Point::new(x, bottom - (value / most * height as f32) as i32)
    };
    let points = column.points.iter().enumerate();
    let mut before = None;
    for (at, value) in points {
        let now = value.filter(|v| v.is_finite()).map(|v| place(at, v));
        if let (Some(from), Some(to)) = (before, now) {
            let _ = Line::new(from, to).into_styled(PrimitiveStyle::with_stroke(line, 2)).draw(canvas);
        }
        before = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_and_a_table() {
        let points = vec![Some(1.0), None, Some(3.5), Some(0.0)];
        let column =
            api::Column {
                name: "new".into(), title: "new – odd".into(), unit: "per second".into(), points
            };
        let series = api::Series { step_seconds: 5, start: 1_700_000_000, columns: vec![column] };
        assert_eq!(
            csv(&series),
            "time,new\r\n1700000000,1\r\n1700000005,\r\n1700000010,3.5\r\n1700000015,0\r\n"
        );
        let image = png("web", &series).unwrap();
        let mut reader = png::Decoder::new(std::io::Cursor::new(&image)).read_info().unwrap();
        let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
        let info = reader.next_frame(&mut pixels).unwrap();
        assert_eq!((info.width, info.height), (WIDTH, HEIGHT));
        assert!(pixels.chunks(3).any(|p| p == [3, 105, 161]), "a line is drawn");
        assert!(png("nothing", &api::Series::default()).is_some());
    }
}
