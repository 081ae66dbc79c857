// The health check: exit code 0 when the page answers.
fetch("http://127.0.0.1:8080/healthz").then(
  (answer) => process.exit(answer.ok ? 0 : 1),
  () => process.exit(1),
);
