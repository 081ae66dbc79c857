/** A tree drawn with box characters. */
export interface Branch {
  /** Already styled and made visible. */
  readonly text: string;
  readonly children?: readonly Branch[];
}

export function treeLines(branches: readonly Branch[], indent = ""): string[] {
  return branches.flatMap((branch, at) => {
    const isLast = at === branches.length - 1;
    return [`${indent}${isLast ? "└─ " : "├─ "}${branch.text}`, ...treeLines(branch.children ?? [], `${indent}${isLast ? "   " : "│  "}`)];
  });
}
