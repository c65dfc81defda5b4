#!/bin/sh
# Writes the OVF description of evenkeel.vmdk, and both as one OVA. Usage: ova.sh FOLDER BYTES-OF-THE-DISK
set -eu
out=$1
capacity=$2
size=$(stat -c %s "$out/evenkeel.vmdk")
cat >"$out/evenkeel.ovf" <<END
<?xml version="1.0" encoding="UTF-8"?>
<Envelope xmlns="http://schemas.dmtf.org/ovf/envelope/1" xmlns:ovf="http://schemas.dmtf.org/ovf/envelope/1"
 xmlns:rasd="http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_ResourceAllocationSettingData"
 xmlns:vssd="http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_VirtualSystemSettingData">
 <References><File ovf:href="evenkeel.vmdk" ovf:id="file1" ovf:size="$size"/></References>
 <DiskSection><Info>Disks</Info>
  <Disk ovf:capacity="$capacity" ovf:diskId="disk1" ovf:fileRef="file1"
   ovf:format="http://www.vmware.com/interfaces/specifications/vmdk.html#streamOptimized"/>
 </DiskSection>
 <NetworkSection><Info>Networks</Info>
  <Network ovf:name="VM Network"><Description>Clients, real servers and administration</Description></Network>
 </NetworkSection>
 <VirtualSystem ovf:id="evenkeel">
  <Info>Evenkeel load balancer</Info>
  <Name>evenkeel</Name>
  <OperatingSystemSection ovf:id="96"><Info>Debian GNU/Linux 64-bit</Info></OperatingSystemSection>
  <VirtualHardwareSection><Info>Hardware</Info>
   <System>
    <vssd:ElementName>Virtual Hardware Family</vssd:ElementName><vssd:InstanceID>0</vssd:InstanceID>
    <vssd:VirtualSystemIdentifier>evenkeel</vssd:VirtualSystemIdentifier>
    <vssd:VirtualSystemType>vmx-13</vssd:VirtualSystemType>
   </System>
   <Item><rasd:ElementName>2 processors</rasd:ElementName><rasd:InstanceID>1</rasd:InstanceID>
    <rasd:ResourceType>3</rasd:ResourceType><rasd:VirtualQuantity>2</rasd:VirtualQuantity></Item>
   <Item><rasd:AllocationUnits>byte * 2^20</rasd:AllocationUnits><rasd:ElementName>2048 MB of memory</rasd:ElementName>
    <rasd:InstanceID>2</rasd:InstanceID><rasd:ResourceType>4</rasd:ResourceType>
    <rasd:VirtualQuantity>2048</rasd:VirtualQuantity></Item>
   <Item><rasd:ElementName>SCSI controller</rasd:ElementName><rasd:InstanceID>3</rasd:InstanceID>
    <rasd:ResourceSubType>lsilogic</rasd:ResourceSubType><rasd:ResourceType>6</rasd:ResourceType></Item>
   <Item><rasd:AddressOnParent>0</rasd:AddressOnParent><rasd:ElementName>Disk</rasd:ElementName>
    <rasd:HostResource>ovf:/disk/disk1</rasd:HostResource><rasd:InstanceID>4</rasd:InstanceID>
    <rasd:Parent>3</rasd:Parent><rasd:ResourceType>17</rasd:ResourceType></Item>
   <Item><rasd:AddressOnParent>7</rasd:AddressOnParent><rasd:AutomaticAllocation>true</rasd:AutomaticAllocation>
    <rasd:Connection>VM Network</rasd:Connection><rasd:ElementName>Network adapter</rasd:ElementName>
    <rasd:InstanceID>5</rasd:InstanceID><rasd:ResourceSubType>VmxNet3</rasd:ResourceSubType>
    <rasd:ResourceType>10</rasd:ResourceType></Item>
  </VirtualHardwareSection>
 </VirtualSystem>
</Envelope>
END
cd "$out"
for file in evenkeel.ovf evenkeel.vmdk; do
    printf 'SHA256(%s)= %s\n' "$file" "$(sha256sum "$file" | cut -d ' ' -f 1)"
done >evenkeel.mf
# The description comes first, so that it can be read while the rest is still coming.
tar --format=ustar --owner=0 --group=0 --mtime="@${SOURCE_DATE_EPOCH:-0}" -cf evenkeel.ova \
    evenkeel.ovf evenkeel.mf evenkeel.vmdk
rm evenkeel.ovf evenkeel.mf
