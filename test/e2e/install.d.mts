export function missingPackages(): string[];
export function install(log?: (line: string) => void): string[];
