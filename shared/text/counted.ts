/** "1 node", "3 nodes", "2 registries". */
export const counted = (count: number, one: string, many: string = `${one}s`): string => `${count} ${count === 1 ? one : many}`;
