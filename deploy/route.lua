-- Sends each radiograph that comes into Orthanc on to the service, but for what the service itself has sent.
function OnStoredInstance(instance, tags, metadata, origin)
   local modality = tags['Modality']
   if origin['RemoteAet'] ~= 'CXR' and (modality == 'CR' or modality == 'DX') then
      SendToModality(instance, 'cxr')
   end
end
