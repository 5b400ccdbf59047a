//! The causes that make one picture, and which of them the evidence leaves.
//!
//! A rule whose picture has several causes lists them as data ([`Cause`]: what each predicts, what refutes it, what
//! decides), weighs each against the facts, and [`Weighed::named`] names one only when its rivals are excluded. The
//! rule's page shows the same table.

/// One cause that a rule's picture may have.
#[derive(Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Cause {
    /// Stable identifier for JSON and tests, kebab-case.
    pub id: &'static str,
    /// The cause as half a sentence: "the peer's accept queue is full".
    pub text: &'static str,
    /// What is seen if it is this.
    pub predicts: &'static str,
    /// What is seen only if it is not this.
    pub refuted_by: &'static str,
    /// The command or fact that decides.
    pub decided_by: &'static str,
}

/// What the facts say of one cause.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Weight {
    /// The facts show it; every rival that is not proven too is out.
    Proven,
    /// The facts fit, with this much belief beside the other possible ones (above 0).
    Possible(f64),
    /// A fact excludes it: which, as half a sentence.
    Refuted(String),
}

/// A cause that is left, with its share of belief.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Hypothesis {
    pub cause: &'static Cause,
    /// 0 to 1; all that are left add up to 1.
    pub confidence: f64,
}

/// The causes of one finding after weighing.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Weighed {
    /// What is left, likeliest first. One entry: it is named. Empty: nothing is known of the cause.
    pub left: Vec<Hypothesis>,
    /// What is excluded, and by which fact.
    pub ruled_out: Vec<(&'static Cause, String)>,
}

impl Weighed {
    /// Weighs causes against facts.
    pub fn of(causes: &'static [Cause], weigh: impl Fn(&'static Cause) -> Weight) -> Weighed {
        let weights: Vec<(&'static Cause, Weight)> = causes.iter().map(|c| (c, weigh(c))).collect();
        let proven = weights.iter().any(|(_, w)| *w == Weight::Proven);
        let mut weighed = Weighed::default();
        for (cause, weight) in weights {
            match weight {
                Weight::Proven => weighed.left.push(Hypothesis { cause, confidence: 1.0 }),
                Weight::Possible(belief) if !proven => weighed.left.push(Hypothesis { cause, confidence: belief }),
                Weight::Possible(_) => {}
                Weight::Refuted(why) => weighed.ruled_out.push((cause, why)),
            }
        }
        let sum: f64 = weighed.left.iter().map(|h| h.confidence).sum();
        for hypothesis in &mut weighed.left {
            hypothesis.confidence /= sum;
        }
        weighed.left.sort_by(|a, b| b.confidence.total_cmp(&a.confidence));
        weighed
    }

    /// The cause, when only one is left.
    #[must_use]
    pub fn named(&self) -> Option<&'static Cause> {
        match &self.left[..] {
            [one] => Some(one.cause),
            _ => None,
        }
    }

    /// Whether several are left, and no fact makes one likelier than another.
    #[must_use]
    pub fn is_even(&self) -> bool {
        match &self.left[..] {
            [first, .., last] => (first.confidence - last.confidence).abs() < f64::EPSILON,
            _ => false,
        }
    }

    /// Whether this cause is the one that is left.
    #[must_use]
    pub fn is(&self, id: &str) -> bool {
        self.named().is_some_and(|cause| cause.id == id)
    }
}
