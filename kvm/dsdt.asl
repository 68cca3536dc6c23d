/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the guest's ACPI interpreter is told: the same for every machine. The number of
 * processors is in the MADT; the ports are those of kvm/layout.h. */
DefinitionBlock ("", "DSDT", 2, "COLO  ", "COLOVM  ", 1)
{
	Name (\_S5, Package () { 0x05, 0x05, 0x00, 0x00 })

	Scope (\_SB)
	{
		Device (PCI0)
		{
			Name (_HID, EisaId ("PNP0A03"))
			Name (_UID, 0)
			Name (_CRS, ResourceTemplate () {
				WordBusNumber (ResourceProducer, MinFixed, MaxFixed, PosDecode,
					0x0000, 0x0000, 0x0000, 0x0000, 0x0001)
				IO (Decode16, 0x0cf8, 0x0cf8, 0x01, 0x08)
				DWordMemory (ResourceProducer, PosDecode, MinFixed, MaxFixed,
					NonCacheable, ReadWrite,
					0x00000000, 0xe0000000, 0xfebfffff, 0x00000000, 0x1ec00000)
			})
		}

		Device (COM1)
		{
			Name (_HID, EisaId ("PNP0501"))
			Name (_UID, 1)
			Name (_STA, 0x0f)
			Name (_CRS, ResourceTemplate () {
				IO (Decode16, 0x03f8, 0x03f8, 0x01, 0x08)
				IRQNoFlags () { 4 }
			})
		}

		Device (PEVT)
		{
			Name (_HID, "QEMU0001")
			Name (_UID, 0)
			Name (_STA, 0x0f)
			Name (_CRS, ResourceTemplate () {
				IO (Decode16, 0x0505, 0x0505, 0x01, 0x01)
			})
		}

		Device (PWRB)
		{
			Name (_HID, EisaId ("PNP0C0C"))
			Name (_UID, 0)
		}

		Device (GED)
		{
			Name (_HID, "ACPI0013")
			Name (_UID, 0)
			Name (_CRS, ResourceTemplate () {
				Interrupt (ResourceConsumer, Edge, ActiveHigh, Exclusive) { 5 }
			})
			OperationRegion (EVTR, SystemIO, 0x0608, 0x01)
			Field (EVTR, ByteAcc, NoLock, WriteAsZeros) { EVTS, 8 }
			Method (_EVT, 1, Serialized)
			{
				Local0 = EVTS
				If ((Local0 & 0x01) != 0) {
					Notify (PWRB, 0x80)
				}
			}
		}
	}
}
