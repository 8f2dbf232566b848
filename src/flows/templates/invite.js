// The invitation's code stands behind the '#', which the browser keeps to itself. Into the form with it, and out of
// the address bar and the history.
const code = location.hash.slice(1);
const field = document.querySelector("input[name=token]");
if (code && field) {
  field.value = code;
  history.replaceState(null, "", location.pathname);
  document.querySelector("input[name=name]")?.focus();
}
