//! A straight line through measured points: how fast something grows, and how well a line describes it.

/// Least-squares line.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Trend {
    /// Growth of y for each unit of x.
    pub slope: f64,
    /// Mean of y.
    pub mean: f64,
    /// Share of the variance of y that the line explains, 0 to 1; 1 where y never changes.
    pub r2: f64,
    /// Greatest x minus least x.
    pub span: f64,
}

impl Trend {
    /// Through these points; `None` for fewer than three, or where all have one x: no line is better than another then.
    pub fn of(points: &[(f64, f64)]) -> Option<Trend> {
        let count = points.len() as f64;
        let mean = |of: fn(&(f64, f64)) -> f64| points.iter().map(of).sum::<f64>() / count;
        let (x, y) = (mean(|p| p.0), mean(|p| p.1));
        let sum = |of: &dyn Fn(f64, f64) -> f64| points.iter().map(|p| of(p.0 - x, p.1 - y)).sum::<f64>();
        let (xx, xy, yy) = (sum(&|x, _| x * x), sum(&|x, y| x * y), sum(&|_, y| y * y));
        if points.len() < 3 || xx == 0.0 {
            return None;
        }
        let least = points.iter().map(|p| p.0).fold(f64::INFINITY, f64::min);
        let greatest = points.iter().map(|p| p.0).fold(f64::NEG_INFINITY, f64::max);
        let r2 = if yy == 0.0 { 1.0 } else { xy * xy / (xx * yy) };
        Some(Trend { slope: xy / xx, mean: y, r2, span: greatest - least })
    }

    /// What the line grows by from the least x to the greatest.
    pub fn growth(&self) -> f64 {
        self.slope * self.span
    }
}

#[cfg(test)]
mod tests {
    use super::Trend;

    #[test]
    fn a_straight_line_is_found_and_explains_all() {
        let trend = Trend::of(&[(10.0, 5.0), (20.0, 7.0), (40.0, 11.0)]).expect("a line");
        assert!((trend.slope - 0.2).abs() < 1e-9 && (trend.r2 - 1.0).abs() < 1e-9, "{trend:?}");
        assert!((trend.growth() - 6.0).abs() < 1e-9, "{trend:?}");
    }

    #[test]
    fn steps_and_noise_are_explained_less_well() {
        let steps = Trend::of(&[(0.0, 0.0), (1.0, 0.0), (2.0, 0.0), (3.0, 9.0)]).expect("a line");
        assert!(steps.r2 < 0.7, "{steps:?}");
        let level = Trend::of(&[(0.0, 4.0), (1.0, 4.0), (2.0, 4.0)]).expect("a line");
        assert_eq!((level.slope, level.mean, level.r2), (0.0, 4.0, 1.0));
    }

    #[test]
    fn two_points_or_one_place_are_no_trend() {
        assert_eq!(Trend::of(&[(0.0, 1.0), (1.0, 2.0)]), None);
        assert_eq!(Trend::of(&[(1.0, 1.0), (1.0, 2.0), (1.0, 3.0)]), None);
    }
}
