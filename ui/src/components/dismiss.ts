// Closes a popover when the pointer goes down, or the focus goes, outside of it, or on Escape.
//
// Inside is everything in the popover's parent: the button that opened it stands there too, and must
// not close it only to open it again.

export function dismiss(node: HTMLElement, close: () => void): { destroy(): void } {
  const inside = node.parentElement ?? node;
  const outside = (event: Event): void => {
    if (event.target instanceof Node && !inside.contains(event.target)) close();
  };
  const escape = (event: KeyboardEvent): void => {
    if (event.key !== 'Escape') return;
    event.stopPropagation();
    event.preventDefault();
    close();
  };
  document.addEventListener('pointerdown', outside, true);
  document.addEventListener('focusin', outside, true);
  document.addEventListener('keydown', escape, true);
  return {
    destroy() {
      document.removeEventListener('pointerdown', outside, true);
      document.removeEventListener('focusin', outside, true);
      document.removeEventListener('keydown', escape, true);
    },
  };
}
