/**
 * What is on the machine, listed before a test and after it; see `demo/inventory.ts`, which
 * the demo shares.
 *
 * @module
 */
export {
  diffInventory,
  type Inventory,
  INVENTORY_PARTS,
  type InventoryOptions,
  type InventoryPart,
  settleInventory,
  takeInventory,
} from "../../demo/inventory.ts";
