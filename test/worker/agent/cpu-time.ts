/** Milliseconds of processor time that this thread has taken: what a hostile input costs, whatever else the machine does. */
export function cpuMs(): number {
  const { user, system } = process.threadCpuUsage();
  return (user + system) / 1_000;
}
