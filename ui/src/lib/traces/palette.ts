// Colours of services and series. Each name has a home slot by its hash, so a service keeps its
// colour from page to page; within one view, names that collide move on to the next free slot.

/** Slots are CSS custom properties, so that both themes can give each its own value. */
export const PALETTE_SIZE = 16;

function hash(text: string): number {
  let value = 0x811c9dc5;
  for (let index = 0; index < text.length; index += 1) {
    value ^= text.charCodeAt(index);
    value = Math.imul(value, 0x01000193);
  }
  return value >>> 0;
}

/** Slot per name, distinct while there are no more than `PALETTE_SIZE` names. Order of `names` is irrelevant. */
export function assignSlots(names: Iterable<string>): Map<string, number> {
  const slots = new Map<string, number>();
  const taken = new Set<number>();
  for (const name of [...new Set(names)].sort()) {
    let slot = hash(name) % PALETTE_SIZE;
    if (taken.size < PALETTE_SIZE) while (taken.has(slot)) slot = (slot + 1) % PALETTE_SIZE;
    taken.add(slot);
    slots.set(name, slot);
  }
  return slots;
}

export function slotColor(slot: number): string {
  return `var(--series-${slot % PALETTE_SIZE})`;
}
