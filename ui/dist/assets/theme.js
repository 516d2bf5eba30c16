// Runs before the first paint, so that a chosen theme never flashes the other one.
// It is a file of its own because the content security policy allows no inline script.
try {
  const chosen = localStorage.getItem('pharos.theme');
  if (chosen === 'light' || chosen === 'dark') document.documentElement.dataset.theme = chosen;
} catch {
  // Storage may be blocked: the system's preference applies.
}
