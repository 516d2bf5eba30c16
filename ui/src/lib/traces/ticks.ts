// Round tick marks for a window of a trace.

/** At most `count` round instants (1, 2, 5 × 10ⁿ µs apart; minutes and hours above a second) inside `[from_us, to_us]`. */
export function timeTicks(from_us: number, to_us: number, count: number): number[] {
  const span = to_us - from_us;
  if (!(span > 0) || count < 1) return [from_us];
  const least = span / count;
  const step = niceStep(least);
  const first = Math.ceil(from_us / step - 1e-9) * step;
  const ticks: number[] = [];
  for (let at = first; at <= to_us + step * 1e-6; at += step) ticks.push(Number(at.toPrecision(12)));
  return ticks;
}

const LONG_STEPS_US = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1_800, 3_600, 7_200, 21_600, 43_200, 86_400].map((s) => s * 1e6);

function niceStep(least: number): number {
  if (least > 5e5) return LONG_STEPS_US.find((step) => step >= least) ?? Math.ceil(least / 864e8) * 864e8;
  const decade = 10 ** Math.floor(Math.log10(least));
  return (([1, 2, 5].find((factor) => factor * decade >= least * (1 - 1e-9)) ?? 10) * decade);
}
