// Drags a separator; arrow keys move it too.

export interface Resizable {
  size: () => number;
  onresize: (size: number) => void;
  /** 1 when the thing resized lies before the separator, -1 when behind. */
  direction: 1 | -1;
}

const KEY_STEP_PX = 24;

export function resizable(node: HTMLElement, options: Resizable): { update(next: Resizable): void; destroy(): void } {
  let current = options;
  node.tabIndex = 0;
  const down = (event: PointerEvent): void => {
    event.preventDefault();
    node.setPointerCapture(event.pointerId);
    const start = event.clientX;
    const size = current.size();
    const move = (moved: PointerEvent): void => current.onresize(size + current.direction * (moved.clientX - start));
    const up = (): void => {
      node.removeEventListener('pointermove', move);
      node.removeEventListener('pointerup', up);
      node.removeEventListener('pointercancel', up);
    };
    node.addEventListener('pointermove', move);
    node.addEventListener('pointerup', up);
    node.addEventListener('pointercancel', up);
  };
  const key = (event: KeyboardEvent): void => {
    if (event.key !== 'ArrowLeft' && event.key !== 'ArrowRight') return;
    event.preventDefault();
    event.stopPropagation();
    current.onresize(current.size() + current.direction * (event.key === 'ArrowRight' ? KEY_STEP_PX : -KEY_STEP_PX));
  };
  node.addEventListener('pointerdown', down);
  node.addEventListener('keydown', key);
  return {
    update(next) {
      current = next;
    },
    destroy() {
      node.removeEventListener('pointerdown', down);
      node.removeEventListener('keydown', key);
    },
  };
}
